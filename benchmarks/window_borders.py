"""Do windows show? Steps between tiles over the steps that one window draws at the same place.

A window reaches beyond its tile and draws there what its neighbour's tile shows. So the two pixels
that meet at a border also stand side by side in one window, drawn in one go: that step is the
tissue's, and the anchor's, whose own blocks end there too. What steps between tiles have more than
these is the windows'.
"""

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
from wsicodec.geometry import Region, magnification_index
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
    info = group.attrs["wsicodec"]
    bundle = find_bundle(info["fingerprint"])
    networks = load_drawing(bundle)
    recipe = Recipe(info["slide"], bundle.latent_channels, info["steps"])
    magnification = magnification_index(info["mpp"], level)
    grid = np.asarray(group["embeddings"][...], np.float32) / np.float32(bundle.embedding_scale)
    tissue = np.asarray(group["tissue"][...]) == GENERATED
    found = {}
    for ty, tx in tiles.cells():
        place = tile_window(ty, tx)
        side = 1 << level
        if not tissue[ty * side : (ty + 1) * side, tx * side : (tx + 1) * side].any():
            continue
        parent = _cut(group[str(level + 1)], parent_region(place))
        cells = embedding_region(place, level).clip(tissue.shape)
        part = grid[cells.slices()]
        told = conditioning_map(
            part, np.asarray(part.any(axis=-1)), (cells.y0, cells.x0), place, level
        )
        window = Window(level, ty, tx, magnification, parent, told)
        (found[ty, tx],) = draw_whole(networks, recipe, [window])
    return found


def _cut(array: Any, region: Region) -> Pixels:
    """A region of a level; beyond the slide its border repeats."""
    inside = region.clip(array.shape[:2])
    rows = inside.y0 - region.y0, region.y1 - inside.y1
    columns = inside.x0 - region.x0, region.x1 - inside.x1
    return np.pad(np.asarray(array[inside.slices()]), (rows, columns, (0, 0)), mode="edge")
