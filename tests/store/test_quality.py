"""An anchor is coded as well as its rate allows."""

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.coding.images import QUALITIES, ImageFormat, best_quality, encode_image
from wsicodec.models.bundle import AnchorPlan
from wsicodec.slide import open_slide
from wsicodec.store.quality import settle_quality

PLAN = AnchorPlan(2, "avif", 18, 0.02)
ALL = np.ones((8, 8))


def _tissue(blotch: int, seed: int = 0) -> NDArray[np.uint8]:
    """2048 x 2048 pixels of blotches of one side; the smaller, the dearer."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 220, (2048 // blotch, 2048 // blotch, 3), np.uint8)
    return small.repeat(blotch, 0).repeat(blotch, 1)


def _settled(rgb: NDArray[np.uint8], plan: AnchorPlan, share: NDArray[np.float64] = ALL) -> int:
    with open_slide(rgb, mpp=0.5) as slide:
        return settle_quality(slide, share, plan)


def test_smooth_tissue_is_coded_better_than_busy_tissue() -> None:
    busy, smooth = _settled(_tissue(16), PLAN), _settled(_tissue(128), PLAN)
    assert busy < smooth
    assert _settled(_tissue(16), PLAN) == busy


def test_more_rate_buys_more_quality() -> None:
    found = [_settled(_tissue(32), AnchorPlan(2, "avif", 18, bpp)) for bpp in (0.01, 0.03, 0.2)]
    assert found == sorted(found)
    assert found[0] < found[-1]


def test_without_a_rate_or_tissue_the_plan_stands() -> None:
    assert _settled(_tissue(64), AnchorPlan(2, "avif", 18)) == 18
    assert _settled(_tissue(64), PLAN, np.zeros((8, 8), bool)) == 18


def test_only_tissue_counts() -> None:
    rgb = np.full((2048, 2048, 3), 244, np.uint8)
    rgb[:1024] = _tissue(16)[:1024]
    half = (np.arange(8)[:, None].repeat(8, 1) < 4).astype(float)
    assert _settled(rgb, PLAN, half) == pytest.approx(_settled(_tissue(16), PLAN), abs=2)


def test_glass_beside_tissue_does_not_make_it_cheaper() -> None:
    rgb = np.full((2048, 2048, 3), 244, np.uint8)
    rgb[:1024] = _tissue(16)[:1024]
    fringed = np.where(np.arange(8)[:, None].repeat(8, 1) < 4, 0.9, 0.1)
    only = np.where(fringed > 0.5, fringed, 0)
    assert _settled(rgb, PLAN, fringed) == _settled(rgb, PLAN, only)
    fringe_alone = np.where(fringed > 0.5, 0, fringed)
    assert _settled(rgb, PLAN, fringe_alone) == QUALITIES[1], "glass, which costs nothing"


def test_the_best_quality_that_fits_is_found() -> None:
    rgb = _tissue(8)[:256, :256]
    most = len(encode_image(rgb, ImageFormat("avif", 33)))
    found = best_quality(rgb, "avif", most)
    assert found >= 33
    assert len(encode_image(rgb, ImageFormat("avif", found))) <= most
    assert best_quality(rgb, "avif", 10) == QUALITIES[0]
    assert best_quality(rgb, "avif", 1e9) == QUALITIES[1]
