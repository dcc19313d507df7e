"""Fused GPU kernels for wsicodec, imported by `wsicodec.ops` alone and only for CUDA tensors."""

__all__: list[str] = []
