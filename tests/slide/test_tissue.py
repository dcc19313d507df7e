"""Tissue against glass, pens, borders and stain, on pictures whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.geometry import grid_shape
from wsicodec.slide import TissueMap, find_tissue, open_slide

Image = NDArray[np.uint8]
GLASS = (240, 238, 241)
MPP = 8.0  # coarse pixels keep a slide of 8 mm small


def _glass(rng: np.random.Generator, side: int = 1024) -> NDArray[np.float64]:
    """A slide of glass with the noise of a JPEG at low quality."""
    return np.asarray(GLASS, float) + rng.normal(0, 1.5, (side, side, 1))


def _tissue(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    stain = rng.uniform(0.3, 1.0, (*shape, 1))
    light = np.exp(-stain * np.asarray([0.25, 0.75, 0.4]))
    return np.asarray(np.asarray(GLASS) * light, np.float64)


def _find(picture: NDArray[np.float64], mpp: float = MPP) -> TissueMap:
    with open_slide(np.asarray(np.clip(picture, 0, 255), np.uint8), mpp=mpp) as slide:
        return find_tissue(slide)


def test_tissue_on_glass_is_found_where_it_is(rng: np.random.Generator) -> None:
    picture = _glass(rng)
    picture[300:500, 520:760] = _tissue(rng, (200, 240))
    found = _find(picture)
    assert found.grid.shape == (4, 4)
    assert found.grid.tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4, [0] * 4]
    assert found.fraction == pytest.approx(200 * 240 / 1024**2, rel=0.1)
    assert found.background == pytest.approx(GLASS, abs=1)


def test_noisy_glass_alone_is_blank(rng: np.random.Generator) -> None:
    found = _find(_glass(rng))
    assert not found.grid.any()
    assert found.fraction == 0


def test_a_field_without_glass_is_all_tissue(rng: np.random.Generator) -> None:
    found = _find(_tissue(rng, (700, 900)), mpp=0.5)
    assert found.grid.all()
    assert found.fraction == 1
    assert found.background == (255, 255, 255)


INKS = {
    "blue": (40, 80, 190),
    "green": (30, 140, 80),
    "red": (232, 35, 45),
    "black": (25, 25, 28),
}


@pytest.mark.parametrize("ink", list(INKS))
def test_pen_strokes_are_not_tissue(rng: np.random.Generator, ink: str) -> None:
    picture = _glass(rng)
    picture[:, 600:680] = INKS[ink]
    picture[300:500, 100:300] = _tissue(rng, (200, 200))
    found = _find(picture)
    assert found.grid[:, 2:].sum() == 0
    assert found.grid[1, 0]


def test_black_borders_are_not_tissue(rng: np.random.Generator) -> None:
    picture = _glass(rng)
    picture[:, :256], picture[768:] = 0, 0
    assert not _find(picture).grid.any()


def test_a_field_of_densely_stained_eosin_is_no_red_pen(rng: np.random.Generator) -> None:
    picture = _glass(rng, 512)
    picture[:, :400] = np.array([200, 55, 70]) + rng.normal(0, 4, (512, 400, 1))
    assert _find(picture, mpp=0.5).fraction > 0.75


def test_stain_that_ran_out_over_glass_is_not_tissue(rng: np.random.Generator) -> None:
    picture = _glass(rng)
    picture[512:, :] -= np.linspace(0, 25, 512)[:, None, None] * np.asarray([0.3, 1.0, 0.5])
    assert _find(picture).fraction < 0.02


def test_pale_fibres_are_tissue(rng: np.random.Generator) -> None:
    picture = _glass(rng)
    picture[512:, :] -= rng.uniform(5, 45, (512, 1024, 1)) * np.asarray([0.3, 1.0, 0.5])
    found = _find(picture)
    assert found.grid[2:].all()
    assert not found.grid[:2].any()


def test_dust_is_not_tissue(rng: np.random.Generator) -> None:
    picture = _glass(rng)
    for y, x in rng.integers(0, 1020, (12, 2)):
        picture[y : y + 3, x : x + 2] = 120
    assert not _find(picture).grid.any()


def test_the_grid_covers_level_0_of_a_reduced_source(rng: np.random.Generator) -> None:
    picture = np.full((1100, 1800, 3), 240.0)
    picture[:600, :600] = _tissue(rng, (600, 600))
    found = _find(picture, mpp=0.25)
    assert found.grid.shape == grid_shape((550, 900))
    assert found.grid[:2, :2].all()
    assert not found.grid[:, 2:].any()


def test_the_drawn_slide_keeps_its_tissue_and_loses_its_pen(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        found = find_tissue(slide)
    assert 0.25 < found.fraction < 0.75
    assert found.grid.any()
    assert min(found.background) > 235


def test_real_slides_come_near_the_manifest(real_data: Path) -> None:
    with open_slide(real_data / "val/slides/CMU-1-Small-Region.svs") as slide:
        assert find_tissue(slide).fraction == pytest.approx(0.342, abs=0.08)
    with open_slide(real_data / "train/slides/her2st_5714_HE_BT_D2_pyramid.tif") as slide:
        assert find_tissue(slide).fraction == pytest.approx(0.15, abs=0.06)


def test_real_fields_that_are_all_tissue_are_kept_whole(real_data: Path) -> None:
    for path in sorted((real_data / "val/regions").glob("osteosarcoma_*.jpg"))[:6]:
        with open_slide(path, mpp=0.65) as slide:
            assert find_tissue(slide).grid.all(), path.name
