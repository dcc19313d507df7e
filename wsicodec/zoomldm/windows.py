"""Which embeddings lie under a patch of each magnification.

A patch of level k is 256 x 256 px and covers 2^k x 2^k cells of the 20x grid, on the lattice that
starts at the slide's corner. Grids are row-major: heights before widths.
"""

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS


def window_grid(
    grid: NDArray[np.float32],
    valid: NDArray[np.bool_],
    level: int,
    tile: tuple[int, int],
    blank: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The embeddings (2^k, 2^k, d) under a patch of level k.

    Args:
        grid: (gh, gw, d), the slide's.
        valid: (gh, gw) whether there is an embedding.
        level: k, 0 for 20x to 7.
        tile: the patch's row and column among those of its level.
        blank: (d,) embedding of glass, for cells that have none or lie outside the slide.

    Raises:
        ConfigError: no such level, or a patch outside the slide.
    """
    if not 0 <= level < LEVELS:
        raise ConfigError(f"expected a level from 0 to {LEVELS - 1}, got {level}")
    side = 1 << level
    y, x = tile[0] * side, tile[1] * side
    if not (0 <= y < grid.shape[0] and 0 <= x < grid.shape[1]):
        raise ConfigError(
            f"expected a patch of level {level} inside {grid.shape[0]} x {grid.shape[1]} cells, "
            f"got row {tile[0]}, column {tile[1]}"
        )
    window = np.broadcast_to(blank, (side, side, grid.shape[2])).astype(np.float32)
    part = grid[y : y + side, x : x + side]
    here = valid[y : y + side, x : x + side]
    window[: part.shape[0], : part.shape[1]][here] = part[here]
    return window


def quadrant(parent: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """The quarter of a patch (256, 256, 3) that its child in that row and column covers."""
    if (row, column) not in ((0, 0), (0, 1), (1, 0), (1, 1)):
        raise ConfigError(f"expected row and column 0 or 1, got {row}, {column}")
    half = parent.shape[0] // 2
    return parent[row * half : (row + 1) * half, column * half : (column + 1) * half]
