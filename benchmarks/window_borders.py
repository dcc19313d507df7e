"""Do windows show? What they draw across their borders, and what others draw at the same place.

A window reaches beyond its tile and draws there what its neighbour's tile shows. So the two pixels
that meet at a border also stand side by side in one window, drawn in one go: that step is the
tissue's, and the anchor's, whose own blocks end there too. What steps between tiles have more than
these is the windows'.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.draw import Pixels, Recipe, Window, draw_whole
from wsicodec.codec.plan import parent_region
from wsicodec.config import GENERATED
from wsicodec.diffusion.windows import (
    HALO,
    conditioning_map,
    embedding_region,
    tile_window,
)
from wsicodec.geometry import PATCH, Region, magnification_index
from wsicodec.models.bundle import find_bundle
from wsicodec.models.networks import load_drawing

Tile = tuple[int, int]


def over_own(group: Any, level: int, tiles: Region) -> float:
    """The mean step between neighbouring tiles over the mean step inside windows there.

    group: root of a slide's store.
    level: of the store, one whose tiles are drawn.
    tiles: rows and columns of tiles.
    """
    drawn = whole_windows(group, level, tiles)
    between: list[float] = []
    own: list[float] = []
    for (ty, tx), first in drawn.items():
        for other, turn in (((ty, tx + 1), False), ((ty + 1, tx), True)):
            if other in drawn:
                steps = _steps(first, drawn[other], turn)
                between.append(steps[0])
                own += steps[1:]
    return float(np.mean(between) / np.mean(own))


def _steps(first: Pixels, second: Pixels, turn: bool) -> tuple[float, float, float]:
    """Mean grey steps where `second` follows to the right, or, with `turn`, below.

    Returns:
        From tile to tile, inside the first window, inside the second.
    """
    a, b = (w.swapaxes(0, 1) if turn else w for w in (first, second))
    left, right = (_grey(w)[HALO:-HALO, at : at + 2] for w, at in ((a, -HALO - 1), (b, HALO - 1)))
    pairs = ((left[:, 0], right[:, 1]), left.T, right.T)
    return tuple(float(np.abs(x - y).mean()) for x, y in pairs)  # type: ignore[return-value]


def _grey(rgb: Pixels) -> NDArray[np.float64]:
    return np.asarray(rgb.mean(axis=2, dtype=np.float64))


def whole_windows(group: Any, level: int, tiles: Region) -> dict[Tile, Pixels]:
    """The windows (WINDOW, WINDOW, 3) of tiles with tissue, halos and all, as a reader draws them.

    Arguments are those of `over_own`.
    """
    windows = Windows(group, level)
    drawn = {tile: windows.draw(tile) for tile in tiles.cells()}
    return {tile: whole for tile, whole in drawn.items() if whole is not None}


def moved(group: Any, level: int, regions: Sequence[Region], by: int) -> list[Pixels]:
    """Regions (h, w, 3) of a level, drawn by windows that lie `by` pixels further down and right.

    Tissue, parents and embeddings are those of the place; what holds no tissue stays as it is read.
    """
    windows, found = Windows(group, level), []
    for region in regions:
        shown = np.array(group[str(level)][region.slices()])
        for tile in _further(region, -by).scale_down(PATCH).cells():
            whole = windows.draw(tile, by)
            if whole is not None:
                place = _further(tile_window(*tile, halo=0), by)
                part = place.intersect(region)
                corner = place.y0 - HALO, place.x0 - HALO
                shown[part.slices((region.y0, region.x0))] = whole[part.slices(corner)]
        found.append(shown)
    return found


class Windows:
    """Draws windows of a store's level as a reader does, tiles' own or any others."""

    def __init__(self, group: Any, level: int) -> None:
        info = group.attrs["wsicodec"]
        bundle = find_bundle(info["fingerprint"])
        self._group, self._level = group, level
        self._networks = load_drawing(bundle)
        self._recipe = Recipe(info["slide"], bundle.latent_channels, info["steps"])
        self._magnification = magnification_index(info["mpp"], level)
        grid = np.asarray(group["embeddings"][...], np.float32)
        self._grid = grid / np.float32(bundle.embedding_scale)
        self._tissue = np.asarray(group["tissue"][...]) == GENERATED

    def draw(self, tile: Tile, by: int = 0) -> Pixels | None:
        """A tile's window (WINDOW, WINDOW, 3), halo and all; None where it has no tissue.

        Args:
            tile: its row and column.
            by: pixels that the lattice of tiles lies further down and right; noise lies so, too.
        """
        inner = _further(tile_window(*tile, halo=0), by).scale_up(1 << self._level)
        if not self._tissue[inner.scale_down(PATCH).clip(self._tissue.shape).slices()].any():
            return None
        place = _further(tile_window(*tile), by)
        parent = _cut(self._group[str(self._level + 1)], parent_region(place))
        cells = embedding_region(place, self._level).clip(self._tissue.shape)
        part = self._grid[cells.slices()]
        valid = np.asarray(part.any(axis=-1))
        told = conditioning_map(part, valid, (cells.y0, cells.x0), place, self._level)
        window = Window(self._level, *tile, self._magnification, parent, told)
        return draw_whole(self._networks, self._recipe, [window])[0]


def _further(region: Region, by: int) -> Region:
    """The region `by` pixels down and right."""
    return Region(region.y0 + by, region.x0 + by, region.y1 + by, region.x1 + by)


def _cut(array: Any, region: Region) -> Pixels:
    """A region of a level; beyond the slide its border repeats."""
    inside = region.clip(array.shape[:2])
    rows = inside.y0 - region.y0, region.y1 - inside.y1
    columns = inside.x0 - region.x0, region.x1 - inside.x1
    return np.pad(np.asarray(array[inside.slices()]), (rows, columns, (0, 0)), mode="edge")
