"""Which latents are drawn together, and what they look at.

A tile of 256 x 256 pixels is drawn in a window of its own that reaches HALO pixels into its
neighbours. The networks are fully convolutional and the noise, the parent and the conditioning
are functions of position, so neighbouring windows agree where they overlap and the halo is simply
cut off: a pixel follows from exactly one window.
"""

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import PATCH, Region

DOWN = 8  # pixels per latent cell and axis
HALO = 32  # pixels drawn beyond the tile on every side
WINDOW = PATCH + 2 * HALO  # pixels; 1.56 latents are decoded for one that is kept
CELL = 32  # pixels per conditioning cell: eight to a tile, ZoomLDM's 8 x 8
_CELLS = PATCH // CELL
_LOCK = 16  # pixels; the scale above which colours follow the parent
_ROUNDS = 3  # of undoing what interpolation takes from the correction of colours


def tile_window(ty: int, tx: int, halo: int = HALO) -> Region:
    """The window of a tile, in pixels of its level; it may stick out of the level."""
    return Region(ty * PATCH, tx * PATCH, (ty + 1) * PATCH, (tx + 1) * PATCH).grow(halo)


def latent_region(window: Region) -> Region:
    """The window in latent cells."""
    return window.scale_down(DOWN)


def embedding_region(window: Region, level: int) -> Region:
    """The grid cells that a window's conditioning map is made of; may stick out of the grid."""
    return _cell_region(window, level).scale_down(PATCH)


def _cell_region(window: Region, level: int) -> Region:
    # Pooling must see whole conditioning cells, and those nest in grid cells or the reverse.
    return window.scale_down(CELL).scale_up(CELL << level)


def conditioning_map(
    grid: NDArray[np.float32],
    valid: NDArray[np.bool_],
    origin: tuple[int, int],
    window: Region,
    level: int,
) -> NDArray[np.float32]:
    """Embeddings laid over a window, eight cells to a tile, as the summarizer wants them.

    Finer than 2.5x one embedding covers several cells and is repeated; coarser than that several
    fall into one cell and are averaged, as ZoomLDM pools them to 8 x 8.

    Args:
        grid: (gh, gw, d) embeddings, zero where there is none.
        valid: (gh, gw) whether there is one.
        origin: row and column of grid[0, 0] in the slide's grid.
        window: in pixels of `level`.
        level: of the store.

    Returns:
        (d + 1, h, w); the last channel is the share of each cell that has embeddings.
    """
    full = cells_under(grid, valid, origin, window, level)
    wanted = embedding_region(window, level)
    return np.ascontiguousarray(_to_cells(full, wanted, window, level).transpose(2, 0, 1))


def cells_under(
    grid: NDArray[np.float32],
    valid: NDArray[np.bool_],
    origin: tuple[int, int],
    window: Region,
    level: int,
) -> NDArray[np.float32]:
    """The embeddings (h, w, d + 1) under a window, one per grid cell, zero where there is none.

    The last channel is 1 where there is one. Arguments are those of `conditioning_map`.
    """
    wanted = embedding_region(window, level)
    here = Region(*origin, origin[0] + grid.shape[0], origin[1] + grid.shape[1])
    common = wanted.intersect(here)
    full = np.zeros((*wanted.shape, grid.shape[2] + 1), np.float32)
    if not common.empty:
        inside = common.slices((wanted.y0, wanted.x0))
        source = common.slices(origin)
        full[inside][..., :-1] = grid[source] * valid[source][..., None]
        full[inside][..., -1] = valid[source]
    return full


def _to_cells(
    full: NDArray[np.float32], wanted: Region, window: Region, level: int
) -> NDArray[np.float32]:
    cells = window.scale_down(CELL)
    pooled = (1 << level) // _CELLS  # grid cells per conditioning cell, 0 when finer than one
    if pooled >= 1:
        height, width = cells.shape
        blocks = full.reshape(height, pooled, width, pooled, -1)
        means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
        return means
    repeats = _CELLS >> level
    rows = np.arange(cells.y0, cells.y1) // repeats - wanted.y0
    columns = np.arange(cells.x0, cells.x1) // repeats - wanted.x0
    return full[rows[:, None], columns[None, :]]


def lock_colour(drawn: NDArray[np.float32], parent: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give a drawn window its parent's colours at scales above 16 pixels.

    The parent is what was seen, or what all its children agreed on; detail is the child's own.

    Args:
        drawn: (h, w, 3) pixels of the level, any linear scale.
        parent: (h / 2, w / 2, 3) the level above, under the same window, same scale.
    """
    error = unsmoothed(_block_means(parent, _LOCK // 2) - _block_means(drawn, _LOCK))
    for axis in (0, 1):
        error = _stretch(error, _LOCK, axis)
    return drawn + error


def unsmoothed(error: NDArray[np.float32]) -> NDArray[np.float32]:
    """What to interpolate linearly between block centres so that blocks get (nearly) these means.

    Interpolated values themselves would reach three quarters of a lone block's error along each
    axis (van Cittert's iteration, a few rounds of it).

    Args:
        error: (h, w, channels) one value a block.
    """
    given = error
    for _ in range(_ROUNDS):
        reached = given
        for axis in (0, 1):
            reach = [(1, 1) if a == axis else (0, 0) for a in range(3)]
            padded = np.moveaxis(np.pad(reached, reach, mode="edge"), axis, 0)
            mixed = (padded[:-2] + np.float32(6) * padded[1:-1] + padded[2:]) / np.float32(8)
            reached = np.moveaxis(mixed, 0, axis)
        given = given + error - reached
    return given


def _block_means(image: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    height, width, channels = image.shape
    blocks = image.reshape(height // side, side, width // side, side, channels)
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return means


def _stretch(values: NDArray[np.float32], factor: int, axis: int) -> NDArray[np.float32]:
    """Linear interpolation by a whole factor along one axis, ends held."""
    length = values.shape[axis]
    place = (np.arange(length * factor, dtype=np.float32) + 0.5) / factor - 0.5
    low = np.clip(np.floor(place).astype(np.intp), 0, length - 1)
    high = np.minimum(low + 1, length - 1)
    weight = np.clip(place - low, 0, 1).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = -1
    weight = weight.reshape(shape)
    a, b = np.take(values, low, axis), np.take(values, high, axis)
    return np.asarray(a + (b - a) * weight, np.float32)
