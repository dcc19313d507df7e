import pytest

from wsicodec.errors import MppError
from wsicodec.geometry import (
    Region,
    check_mpp,
    grid_shape,
    level_shape,
    magnification_index,
    reduction_for,
)


@pytest.mark.parametrize(
    ("mpp", "reduction"),
    [(0.25, 2), (0.2277, 2), (0.125, 4), (0.499, 1), (0.5, 1), (0.36, 1), (0.35, 2), (29.0, 1)],
)
def test_sources_are_reduced_to_about_20x(mpp: float, reduction: int) -> None:
    assert reduction_for(mpp) == reduction


@pytest.mark.parametrize(
    ("mpp", "level", "index"), [(0.5, 0, 0), (0.686, 0, 0), (0.5, 7, 7), (1.0, 0, 1), (29.0, 3, 7)]
)
def test_magnification_index_follows_the_true_resolution(
    mpp: float, level: int, index: int
) -> None:
    assert magnification_index(mpp, level) == index


@pytest.mark.parametrize("mpp", [-1.0, 0.0, 0.01, 41.0, float("nan"), float("inf")])
def test_an_mpp_that_cannot_be_is_refused(mpp: float) -> None:
    with pytest.raises(MppError, match="--mpp"):
        check_mpp(mpp)


def test_levels_halve_and_round_up() -> None:
    shapes = [level_shape((2967, 2220), k) for k in (0, 1, 7)]
    assert shapes == [(2967, 2220), (1484, 1110), (24, 18)]
    assert grid_shape((2967, 2220)) == (12, 9)


def test_regions() -> None:
    region = Region(-5, 10, 20, 31)
    assert region.shape == (25, 21)
    assert region.clip((15, 100)) == Region(0, 10, 15, 31)
    assert region.scale_down(8) == Region(-1, 1, 3, 4)
    assert region.scale_down(8).scale_up(8).intersect(region) == region
    assert region.grow(2).slices((-7, 8)) == (slice(0, 29), slice(0, 25))
    assert Region(3, 3, 3, 9).empty
    assert list(Region(0, 0, 2, 2).cells()) == [(0, 0), (0, 1), (1, 0), (1, 1)]
