"""Noise as a field: a number for every place of every level, the same whoever asks for it.

A counter-based generator (the finaliser of SplitMix64: Steele, Lea, Flood 2014) hashes
(slide, level, channel, y, x) to 16 bits, and a table turns them into a standard normal deviate.
Integers and one fixed table: no platform's logarithm or cosine enters.
"""

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import Region

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_BITS = 16
GRAIN = 1 << 16  # lane of a sketch's noise, beside those of levels and octaves


def noise_field(slide: str, level: int, region: Region, channels: int) -> NDArray[np.float32]:
    """Standard normal deviates, independent for every place, channel, level and slide.

    Args:
        slide: hexadecimal digest that names the slide; its first 16 digits are the key.
        level: of the store, or another lane.
        region: in latent cells of the level; may stick out of the slide.
        channels: of the latent.

    Returns:
        (channels, h, w).
    """
    lanes = noise_lanes(slide, level, channels)
    rows = np.arange(region.y0, region.y1, dtype=np.int64).view(np.uint64)
    columns = np.arange(region.x0, region.x1, dtype=np.int64).view(np.uint64)
    rows = _scramble(lanes[:, None] ^ (rows * np.uint64(_GOLDEN))[None, :])
    cells = _scramble(rows[:, :, None] ^ (columns * np.uint64(_GOLDEN))[None, None, :])
    return normal_table()[(cells >> np.uint64(64 - _BITS)).astype(np.intp)]


def noise_lanes(slide: str, level: int, channels: int) -> NDArray[np.uint64]:
    """The keys (channels,) of a level's channels; arguments are those of `noise_field`."""
    key = _scramble(np.array([int(slide[:16], 16) ^ level], np.uint64))
    return _scramble(key + np.arange(channels, dtype=np.uint64) * np.uint64(_GOLDEN))


def _scramble(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(_GOLDEN)
    words = (words ^ (words >> np.uint64(30))) * _MIX_1
    words = (words ^ (words >> np.uint64(27))) * _MIX_2
    return words ^ (words >> np.uint64(31))


@cache
def normal_table() -> NDArray[np.float32]:
    """The deviate (65536,) that every hash of 16 bits stands for, ascending."""
    # Midpoint quantiles, rounded to 2**-12 so that a last-digit difference in a libm vanishes.
    inverse, half = NormalDist().inv_cdf, 1 << (_BITS - 1)
    upper = [round(inverse((half + i + 0.5) / (2 * half)) * 4096) / 4096 for i in range(half)]
    return np.array([-v for v in reversed(upper)] + upper, np.float32)
