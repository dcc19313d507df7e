import numpy as np
import pytest

from wsicodec.resample import box_reduce, double


@pytest.mark.parametrize("shape", [(8, 12, 3), (7, 9, 3), (1, 1, 3)])
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_box_reduce_averages_what_is_there(shape: tuple[int, int, int], factor: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    got = box_reduce(image, factor)
    height, width = -(-shape[0] // factor), -(-shape[1] // factor)
    assert got.shape == (height, width, 3)
    for y in range(height):
        for x in range(width):
            block = image[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            mean = block.reshape(-1, 3).mean(0)
            np.testing.assert_array_equal(got[y, x], np.floor(mean + 0.5))


def test_box_reduce_keeps_floats_float() -> None:
    image = np.random.default_rng(0).normal(size=(6, 6, 2)).astype(np.float32)
    got = box_reduce(image, 3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got[0, 0], image[:3, :3].mean((0, 1)), rtol=1e-5)


def test_double_keeps_constants_and_ramps() -> None:
    ramp = np.arange(12, dtype=np.float32)[:, None, None] * np.ones((1, 4, 1), np.float32)
    got = double(ramp)
    assert got.shape == (24, 8, 1)
    inside = slice(6, -6)
    np.testing.assert_allclose(got[inside, 0, 0], (np.arange(24)[inside] - 0.5) / 2, atol=1e-5)
    np.testing.assert_allclose(double(np.full((3, 3, 1), 7, np.float32)), 7, rtol=1e-6)
