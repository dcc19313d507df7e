"""Slides on disk: writing, publishing, checking, measuring and exporting zarr stores."""
