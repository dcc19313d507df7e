"""The two resamplings of the format: box reduction by whole factors, cubic enlargement by two."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", np.uint8, np.float32)

# Keys 1981, cubic convolution with a = -1/2, sampled a quarter and three quarters of a pixel in.
_CUBIC_QUARTER = np.array([-9, 111, 29, -3], np.float32) / 128


def box_reduce(image: NDArray[Pixel], factor: int) -> NDArray[Pixel]:
    """Average `factor` x `factor` pixels into one.

    Args:
        image: (h, w, c), uint8 or float32.
        factor: a whole number; 1 returns the image itself.

    Returns:
        (ceil(h / factor), ceil(w / factor), c) of the same type; uint8 is rounded half up, and
        blocks that the border cuts average the pixels they have.
    """
    if factor == 1:
        return image
    height, width = image.shape[:2]
    wide = np.uint32 if image.dtype == np.uint8 else np.float64
    rows = np.arange(0, height, factor)
    columns = np.arange(0, width, factor)
    sums = np.add.reduceat(image, rows, axis=0, dtype=wide)
    sums = np.add.reduceat(sums, columns, axis=1, dtype=wide)
    high = np.minimum(rows + factor, height) - rows
    wide_ = np.minimum(columns + factor, width) - columns
    count = (high[:, None] * wide_[None, :])[..., None]
    if image.dtype == np.uint8:
        return ((2 * sums + count) // (2 * count)).astype(np.uint8)
    return (sums / count).astype(np.float32)


def double(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge by two with cubic convolution, borders repeated (Keys 1981, a = -1/2).

    Args:
        image: (h, w, c).

    Returns:
        (2h, 2w, c); pixel centres stay where they were.
    """
    return _double_rows(_double_rows(image).transpose(1, 0, 2)).transpose(1, 0, 2)


def _double_rows(image: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.concatenate([image[:1], image[:1], image, image[-1:], image[-1:]])
    height = image.shape[0]
    taps = [padded[k : k + height] for k in range(5)]  # rows y-2 .. y+2
    a, b, c, d = (float(weight) for weight in _CUBIC_QUARTER)
    out = np.empty((2 * height, *image.shape[1:]), np.float32)
    out[0::2] = d * taps[0] + c * taps[1] + b * taps[2] + a * taps[3]
    out[1::2] = a * taps[1] + b * taps[2] + c * taps[3] + d * taps[4]
    return out
