"""Embeddings under patches: an asymmetric grid, so that a transposed one is found out."""

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.zoomldm.windows import quadrant, window_grid

GRID = np.arange(5 * 7 * 2, dtype=np.float32).reshape(5, 7, 2)
VALID = np.ones((5, 7), bool)
BLANK = np.array([-1, -2], np.float32)


@pytest.mark.parametrize("level", range(8))
def test_a_window_has_a_cell_for_every_patch_of_20x_under_it(level: int) -> None:
    window = window_grid(GRID, VALID, level, (0, 0), BLANK)
    side = 1 << level
    assert window.shape == (side, side, 2)
    rows, columns = min(side, 5), min(side, 7)
    np.testing.assert_array_equal(window[:rows, :columns], GRID[:rows, :columns])
    assert (window[rows:] == BLANK).all()
    assert (window[:, columns:] == BLANK).all()


def test_windows_lie_on_the_lattice_and_holes_are_glass() -> None:
    valid = VALID.copy()
    valid[2, 5] = False
    window = window_grid(GRID, valid, 1, (1, 2), BLANK)
    np.testing.assert_array_equal(window, [[GRID[2, 4], BLANK], [GRID[3, 4], GRID[3, 5]]])


@pytest.mark.parametrize(("level", "tile"), [(8, (0, 0)), (-1, (0, 0)), (0, (5, 0)), (2, (0, -1))])
def test_patches_that_are_not_there_are_refused(level: int, tile: tuple[int, int]) -> None:
    with pytest.raises(ConfigError):
        window_grid(GRID, VALID, level, tile, BLANK)


def test_quarters_are_named_by_row_and_column() -> None:
    parent = np.zeros((256, 256, 3), np.uint8)
    parent[10, 200] = 255
    assert quadrant(parent, 0, 1)[10, 72].tolist() == [255, 255, 255]
    assert not quadrant(parent, 1, 0).any()
    with pytest.raises(ConfigError, match="0 or 1"):
        quadrant(parent, 2, 0)
