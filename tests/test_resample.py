from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.resample import box_reduce, double


def _slow_box(rgb: NDArray[Any], factor: int) -> NDArray[np.float64]:
    height, width, channels = rgb.shape
    out = np.empty((-(-height // factor), -(-width // factor), channels))
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            block = rgb[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            out[y, x] = block.mean(axis=(0, 1), dtype=np.float64)
    return out


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8, 16, 32])
@pytest.mark.parametrize("shape", [(64, 96, 3), (61, 97, 3), (5, 3, 3), (1, 1, 3)])
def test_box_reduce_of_bytes_is_the_mean_rounded_half_up(
    rng: np.random.Generator, shape: tuple[int, int, int], factor: int
) -> None:
    rgb = rng.integers(0, 256, shape, np.uint8)
    assert np.array_equal(box_reduce(rgb, factor), np.floor(_slow_box(rgb, factor) + 0.5))


@pytest.mark.parametrize("value", [0, 255])
def test_box_reduce_does_not_overflow(value: int) -> None:
    flat = np.full((64, 64, 3), value, np.uint8)
    assert all(np.all(box_reduce(flat, factor) == value) for factor in (2, 16, 32, 64))


def test_box_reduce_keeps_floats(rng: np.random.Generator) -> None:
    rgb = rng.random((31, 46, 3)).astype(np.float32)
    reduced = box_reduce(rgb, 4)
    assert reduced.dtype == np.float32
    np.testing.assert_allclose(reduced, _slow_box(rgb, 4), rtol=1e-6)


def test_box_reduce_twice_by_two_is_once_by_four_for_floats(rng: np.random.Generator) -> None:
    rgb = rng.random((32, 48, 3))
    np.testing.assert_allclose(box_reduce(box_reduce(rgb, 2), 2), box_reduce(rgb, 4), rtol=1e-12)


def test_double_keeps_constants_and_ramps() -> None:
    ramp = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 4, 1), np.float32)
    got = double(ramp)
    assert got.shape == (24, 8, 1)
    inside = slice(6, -6)
    np.testing.assert_allclose(got[inside, 0, 0], (np.arange(24)[inside] - 0.5) / 2, atol=1e-5)
    np.testing.assert_allclose(double(np.full((3, 3, 1), 7, np.float32)), 7, rtol=1e-6)
