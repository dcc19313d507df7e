"""The box filter, against the sum written out in float64."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.slide.base import allowed_facts, box_reduce, over_white, reduce_to_fit, require_rgb


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


def test_over_white_shows_paper_where_nothing_was_scanned() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
    assert over_white(rgba).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]


def test_reduce_to_fit_is_one_box_filter_whatever_the_strips(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb = rng.integers(0, 256, (203, 90, 3), np.uint8)
    monkeypatch.setattr("wsicodec.slide.base.STRIP", 1000)
    assert np.array_equal(reduce_to_fit(lambda a, b: rgb[a:b], (203, 90), 60), box_reduce(rgb, 4))


def test_facts_are_an_allow_list() -> None:
    found = {"vendor": "aperio", "patient": "A. Person", "objective": None, "compression": ""}
    assert allowed_facts(found) == {"vendor": "aperio"}


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 4), np.uint8, "three channels"),
        ((4, 4, 1), np.uint8, "three channels"),
        ((4, 4, 3), np.uint16, "8 bits"),
        ((0, 4, 3), np.uint8, "expected pixels"),
    ],
)
def test_require_rgb_says_what_came(shape: tuple[int, ...], dtype: type, message: str) -> None:
    with pytest.raises(SlideError, match=message):
        require_rgb(shape, np.dtype(dtype), "x.tif")
