"""The integer tables behind a fingerprint."""

from functools import cache

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.models.bundle import find_bundle


@cache
def embedding_tables(fingerprint: str) -> EmbeddingTables:
    """The embedding tables of the bundle with this fingerprint; BundleError if it is not here."""
    return EmbeddingTables.from_tensors(find_bundle(fingerprint).tensors("codec.safetensors"))
