"""What readers share: paper where nothing was scanned, strips, and the allow-list of facts."""

import numpy as np
import pytest

from wsicodec.errors import SlideError
from wsicodec.resample import box_reduce
from wsicodec.slide.base import allowed_facts, over_white, reduce_to_fit, require_rgb


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
