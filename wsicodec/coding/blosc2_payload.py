"""The fallback payload: symbols as a blosc2 chunk, for machines without constriction.

zstd without a filter: measured on symbols, blosc2's shuffle and delta filters cost bytes.
"""

import blosc2
import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BitstreamError, ConfigError

_LIMITS = np.iinfo(np.int16)


def pack_symbols(symbols: NDArray[np.int32]) -> bytes:
    """Symbols (n, k) as a blosc2 chunk of int16, component by component.

    Raises ConfigError if a symbol does not fit.
    """
    if symbols.min() < _LIMITS.min or symbols.max() > _LIMITS.max:
        raise ConfigError(
            f"expected symbols within int16 for the backend 'blosc2', got "
            f"{symbols.min()}..{symbols.max()}; use the backend 'range' or a larger step"
        )
    planes = np.ascontiguousarray(symbols.T.astype("<i2"))
    packed = blosc2.compress2(
        planes,
        codec=blosc2.Codec.ZSTD,
        clevel=9,
        filters=[blosc2.Filter.NOFILTER],
        typesize=2,
        nthreads=1,
    )
    return bytes(packed)


def unpack_symbols(payload: bytes, count: int, components: int) -> NDArray[np.int32]:
    """Symbols (count, components) of `pack_symbols`; raises BitstreamError on another size."""
    expected = 2 * count * components
    try:
        size, packed, _ = blosc2.get_cbuffer_sizes(payload)
        if (size, packed) != (expected, len(payload)):
            raise BitstreamError(
                f"size mismatch: expected a blosc2 chunk of {expected} bytes in {len(payload)}, "
                f"got {size} in {packed}; restore the chunk from a good copy"
            )
        raw = blosc2.decompress2(payload, nthreads=1)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, BitstreamError):
            raise
        raise BitstreamError(
            f"the blosc2 payload does not decompress ({error}); restore the chunk from a good copy"
        ) from error
    planes = np.frombuffer(raw, "<i2").reshape(components, count)
    return np.ascontiguousarray(planes.T.astype(np.int32))
