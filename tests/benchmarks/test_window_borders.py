"""Seams of windows: found where there are some, told apart from what is there anyway."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

pytest.importorskip("benchmarks.window_borders", exc_type=ImportError)

from benchmarks import window_borders
from wsicodec.diffusion.windows import HALO, WINDOW
from wsicodec.geometry import PATCH, Region


def test_whole_windows_are_what_a_reader_draws(standard_store: Path) -> None:
    group: Any = zarr.open_group(standard_store, mode="r")
    drawn = window_borders.whole_windows(group, 1, Region(0, 1, 2, 3))
    assert drawn
    for (ty, tx), whole in drawn.items():
        tile = group["1"][ty * PATCH : (ty + 1) * PATCH, tx * PATCH : (tx + 1) * PATCH]
        shown = whole[HALO:-HALO, HALO:-HALO][: tile.shape[0], : tile.shape[1]]
        # The reader's windows may share a batch with others, whose sums run in another order.
        assert np.abs(shown.astype(int) - tile).max() <= 1


def test_windows_that_are_not_moved_show_what_is_read(standard_store: Path) -> None:
    group: Any = zarr.open_group(standard_store, mode="r")
    place = Region(0, PATCH, 2 * PATCH, 3 * PATCH).clip(group["1"].shape[:2])
    [shown] = window_borders.moved(group, 1, [place], 0)
    assert np.abs(shown.astype(int) - group["1"][place.slices()]).max() <= 1


def test_moved_windows_draw_the_same_tissue_otherwise(standard_store: Path) -> None:
    group: Any = zarr.open_group(standard_store, mode="r")
    place = Region(0, PATCH, 2 * PATCH, 3 * PATCH).clip(group["1"].shape[:2])
    [shown] = window_borders.moved(group, 1, [place], PATCH // 2)
    read = group["1"][place.slices()].astype(int)
    assert shown.shape == read.shape
    assert (shown != read).mean() > 0.2
    blocks = [v[:256, :256].reshape(16, 16, 16, 16, 3).mean((1, 3)) for v in (shown, read)]
    # Colours above 16 pixels are the parent's, wherever windows lie.
    assert np.abs(blocks[0] - blocks[1]).max() < 4


@pytest.mark.parametrize("turn", [False, True])
def test_steps_are_taken_at_the_same_place(turn: bool, rng: np.random.Generator) -> None:
    field = rng.integers(0, 200, (WINDOW, WINDOW + PATCH, 3)).astype(np.uint8)
    first, second = field[:, :WINDOW], field[:, PATCH:]
    if turn:
        first, second = first.swapaxes(0, 1), second.swapaxes(0, 1)
    between, left, right = window_borders._steps(first, second, turn)
    assert between == left == right > 0
    brighter, *own = window_borders._steps(first, second + np.uint8(50), turn)
    assert own == [left, right]
    assert brighter > between
    inner = field[HALO : HALO + PATCH].mean(2)
    step = np.abs(inner[:, HALO + PATCH - 1] - inner[:, HALO + PATCH]).mean()
    assert between == pytest.approx(step)
