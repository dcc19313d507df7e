"""The drawn slide is what it claims to be: a pyramid at 0.5 µm/px, the same for the same seed."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import openslide
import pytest

from wsicodec.geometry import Region
from wsicodec.resample import box_reduce
from wsicodec.slide import draw_slide, open_slide
from wsicodec.slide.drawn import _Pyramid
from wsicodec.slide.textures import (
    KINDS,
    MACRO,
    SHARED,
    Canvas,
    draw_macro_tile,
    wrapped_noise,
)


def test_openslide_sees_a_pyramid_with_its_scale(drawn_slide: Path) -> None:
    with openslide.OpenSlide(drawn_slide) as slide:
        assert slide.level_dimensions == ((1536, 1024), (384, 256), (96, 64))
        assert float(slide.properties["openslide.mpp-x"]) == 0.5
        assert set(slide.associated_images) == set()


def test_coarse_levels_are_the_fine_one_reduced(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        fine = slide.read(Region(0, 0, *slide.shape))
    with openslide.OpenSlide(drawn_slide) as source:
        coarse = np.asarray(source.read_region((0, 0), 1, (384, 256)))[..., :3]
    assert np.abs(coarse - box_reduce(fine, 4).astype(float)).mean() < 2.5


def test_it_holds_tissue_glass_and_pen(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        rgb = slide.overview(400).astype(int)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    assert (rgb.min(axis=2) > 235).mean() > 0.2, "glass"
    assert ((red > green + 25) & (blue > green + 15)).mean() > 0.2, "stained tissue"
    assert (green > red + 20).mean() > 0.001, "blue ink"


def test_the_same_seed_draws_the_same_bytes(drawn_slide: Path, tmp_path: Path) -> None:
    draw_slide(tmp_path / "again.tif", size=(1024, 1536), seed=0)
    assert (tmp_path / "again.tif").read_bytes() == drawn_slide.read_bytes()


def test_another_seed_draws_other_tissue() -> None:
    lymphoid = KINDS.index("lymphoid")
    assert not np.array_equal(draw_macro_tile(0, lymphoid, 0), draw_macro_tile(1, lymphoid, 0))


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (257, 4096), (5000, 300), (40_000, 40_000)])
def test_pyramids_end_small_and_have_three_levels(size: tuple[int, int]) -> None:
    shapes = _Pyramid(size).shapes
    assert len(shapes) >= 3
    assert max(shapes[-1]) <= 512
    for fine, coarse in pairwise(shapes):
        assert coarse == (-(-fine[0] // 4), -(-fine[1] // 4))


def test_variants_of_a_kind_share_their_border_and_differ_inside() -> None:
    one, other = (Canvas(0, 0, variant).noise(30) for variant in (0, 1))
    assert np.array_equal(one[:SHARED], other[:SHARED])
    assert np.array_equal(one[:, -SHARED:], other[:, -SHARED:])
    middle = slice(MACRO // 3, -MACRO // 3)
    assert np.abs(one[middle, middle] - other[middle, middle]).mean() > 0.3


@pytest.mark.parametrize("wave", [2.0, 20.0, 100.0])
def test_noise_wraps_around(rng: np.random.Generator, wave: float) -> None:
    noise = wrapped_noise(rng, (256, 512), wave, wave)
    inner = np.abs(np.diff(noise, axis=0)).mean()
    assert np.abs(noise[0] - noise[-1]).mean() < 1.5 * inner
    assert noise.std() == pytest.approx(1, abs=0.1)
