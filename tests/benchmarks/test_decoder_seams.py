"""What windows' borders cost is told apart from where squares lie."""

import numpy as np
import pytest

pytest.importorskip("benchmarks.decoder_seams", exc_type=ImportError)

from benchmarks.decoder_seams import FURTHER, KEYS, Seams, crossed, line_steps, squares
from wsicodec.geometry import PATCH
from wsicodec.metrics.features import Extractor

FILES = ("a", "b", "c", "d")


def contrast(pixels: np.ndarray) -> np.ndarray:
    """Features that see steps: spread of grey, and its largest step along rows."""
    grey = pixels.mean(-1)
    return np.stack([grey.std((1, 2)), np.abs(np.diff(grey, axis=2)).max((1, 2))], 1)


@pytest.fixture
def true(rng: np.random.Generator) -> list[np.ndarray]:
    return [rng.integers(100, 120, (1024, 1024, 3), np.uint8) for _ in FILES]


@pytest.fixture
def seams(true: list[np.ndarray]) -> Seams:
    return Seams.of(Extractor("contrast", contrast), true, FILES, 8)


def drawn_by(
    rng: np.random.Generator, true: list[np.ndarray], step: int, by: int
) -> list[np.ndarray]:
    """Pictures like the true ones whose windows, moved by `by`, differ in grey."""
    steps = ((np.arange(1024) + PATCH - by) // PATCH % 2 * step).astype(np.uint8)
    return [rng.integers(98, 122, t.shape, np.uint8) + steps[None, :, None] for t in true]


def test_windows_that_differ_show_and_others_do_not(
    seams: Seams, true: list[np.ndarray], rng: np.random.Generator
) -> None:
    same, split = (
        seams.figures(drawn_by(rng, true, step, 0), drawn_by(rng, true, step, FURTHER))
        for step in (0, 40)
    )
    assert set(same) == set(KEYS)
    assert same["corners_over_inside"] == pytest.approx(1, abs=0.1)
    assert split["corners_over_inside"] > 10
    assert same["border_over_inside"] == pytest.approx(1, abs=0.01)
    assert split["border_over_inside_low"] > 1.5
    for row in (same, split):
        for name in ("corners_over_inside", "border_over_inside"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]


def test_what_lies_at_the_same_places_whatever_draws_it_is_no_seam(
    seams: Seams, true: list[np.ndarray], rng: np.random.Generator
) -> None:
    """An anchor's blocks, as wide as windows: steps stay where they are when windows move."""
    lattice = drawn_by(rng, true, 40, 0)
    found = seams.figures(lattice, lattice)
    assert found["corners_over_inside"] == pytest.approx(1)
    assert found["border_over_inside"] == pytest.approx(1)


def test_middles_and_corners_of_two_lattices_are_the_same_squares() -> None:
    rows = (np.arange(1024) % PATCH).astype(np.uint8)
    field = np.broadcast_to(rows[:, None, None], (1024, 1024, 3))
    both = squares([field], [field])
    assert both.shape == (16 + 9, 128, 128, 3)
    assert set(both[:16, 0, 0, 0]) == {64}
    assert set(both[16:, 0, 0, 0]) == {192}


def test_lines_are_borders_or_middles(rng: np.random.Generator) -> None:
    rgb = np.zeros((512, 512, 3), np.uint8)
    rgb[256:] = 10
    assert line_steps(rgb) == (10, 0)
    rgb[128:] += 10
    assert line_steps(rgb) == (10, 10)


def test_fields_that_one_window_covers_have_no_seam() -> None:
    fields = [np.empty((side, 1024, 3), np.uint8) for side in (511, 512, 1024)]
    assert crossed(fields) == [1, 2]


def test_few_files_give_no_interval(true: list[np.ndarray]) -> None:
    few = Seams.of(Extractor("contrast", contrast), true[:2], FILES[:2], 8)
    found = few.figures(true[:2], [t // 2 for t in true[:2]])
    assert found["fd_inside"] >= 0
    assert np.isnan(found["corners_over_inside_low"])
