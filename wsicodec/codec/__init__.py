"""The codecs: embeddings, real pictures and drawn pixels, for numcodecs and zarr 3."""
