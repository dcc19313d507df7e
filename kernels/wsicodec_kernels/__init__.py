"""Fused GPU kernels for wsicodec; none has been written yet, so every op runs its reference."""

__all__: list[str] = []
