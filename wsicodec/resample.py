"""The two resamplings of the format: box reduction by whole factors, cubic enlargement by two."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", np.uint8, np.float32, np.float64)

# Keys 1981, cubic convolution with a = -1/2, sampled a quarter and three quarters of a pixel in.
_CUBIC_QUARTER = np.array([-9, 111, 29, -3], np.float32) / 128


def box_reduce(rgb: NDArray[Pixel], factor: int) -> NDArray[Pixel]:
    """Reduce an image by a whole factor with a box filter.

    rgb: (h, w, c), uint8 or float; uint8 is summed in integers and rounded half up.
    factor: at least 1. A ragged last row or column averages what is there, so the result is
        (ceil(h / factor), ceil(w / factor), c) of the same dtype.
    """
    if factor == 1:
        return rgb
    height, width = rgb.shape[:2]
    y, x = height // factor * factor, width // factor * factor
    if (y, x) == (height, width):
        return _box_whole(rgb, factor)
    out = np.empty((-(-height // factor), -(-width // factor), *rgb.shape[2:]), rgb.dtype)
    out[: y // factor, : x // factor] = _box_whole(rgb[:y, :x], factor)
    if x < width:
        out[:, x // factor :] = _box_ragged(rgb[:, x:], factor)
    if y < height:
        out[y // factor :] = _box_ragged(rgb[y:], factor)
    return out


def _box_whole(rgb: NDArray[Any], factor: int) -> NDArray[Any]:
    if rgb.dtype != np.uint8:
        h, w, c = rgb.shape
        blocks = rgb.reshape(h // factor, factor, w // factor, factor, c)
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64).astype(rgb.dtype))
    # Slices instead of a reshaped sum: several times faster, and exact in these integers.
    wide = np.uint16 if factor <= 16 else np.uint32
    rows: NDArray[Any] = rgb[0::factor].astype(wide)
    for i in range(1, factor):
        rows += rgb[i::factor]
    total: NDArray[Any] = rows[:, 0::factor].astype(wide)
    for i in range(1, factor):
        total += rows[:, i::factor]
    area = factor * factor
    total += area // 2
    total //= area
    return total.astype(np.uint8)


def _box_ragged(rgb: NDArray[Any], factor: int) -> NDArray[Any]:
    height, width = rgb.shape[:2]
    ys, xs = np.arange(0, height, factor), np.arange(0, width, factor)
    integer = rgb.dtype == np.uint8
    wide = np.int64 if integer else np.float64
    total: NDArray[Any] = np.add.reduceat(rgb, ys, axis=0, dtype=wide)
    total = np.add.reduceat(total, xs, axis=1)
    count_y = np.minimum(ys + factor, height) - ys
    count_x = np.minimum(xs + factor, width) - xs
    area = (count_y[:, None] * count_x[None, :])[..., None]
    mean = (total + area // 2) // area if integer else total / area
    return np.asarray(mean.astype(rgb.dtype))


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
