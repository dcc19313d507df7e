"""Embedding grids to bytes and back: quantiser, integer entropy model, range coder, bitstream."""

from wsicodec.coding.bitstream import Header, decode_grid, encode_grid, read_header
from wsicodec.coding.entropy_model import EntropyModel
from wsicodec.coding.fit import fit_tables, rate_distortion
from wsicodec.coding.predictor import estimated_bits
from wsicodec.coding.quantizer import EmbeddingTables, dequantize, quantize

__all__ = [
    "EmbeddingTables",
    "EntropyModel",
    "Header",
    "decode_grid",
    "dequantize",
    "encode_grid",
    "estimated_bits",
    "fit_tables",
    "quantize",
    "rate_distortion",
    "read_header",
]
