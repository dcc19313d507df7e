"""What has to be fetched and drawn before a region can be shown: index arithmetic only."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.record import SlideRecord
from wsicodec.config import MEASURED
from wsicodec.diffusion.windows import HALO, embedding_region, tile_window
from wsicodec.errors import GeneratedPixelsError
from wsicodec.geometry import LEVELS, PATCH, Region
from wsicodec.models.sketch import ROUNDS

Tile = tuple[int, int, int]  # level, row, column
Pixels = NDArray[np.uint8]
MARGIN = 2 + 2 * ROUNDS  # patches that a pixel of a sketch sees: smoothing reaches two, every time


@dataclass(slots=True)
class Plan:
    """Tiles that the cache has, tiles to draw, and the chunks of stored arrays behind them."""

    ready: dict[Tile, Pixels] = field(default_factory=dict)
    missing: dict[int, list[Tile]] = field(default_factory=dict)  # by level
    embeddings: set[tuple[int, int]] = field(default_factory=set)
    pictures: set[tuple[int, int, int]] = field(default_factory=set)  # level, row, column
    roi: set[tuple[int, int]] = field(default_factory=set)


def parent_region(window: Region) -> Region:
    """What a window sees of the level above, in that level's pixels."""
    return window.scale_down(2)


def plan_region(
    record: SlideRecord,
    level: int,
    region: Region,
    cached: Callable[[Tile], Pixels | None],
    allow_generated: bool = True,
    halo: int = HALO,
) -> Plan:
    """Work out what a region of a level needs, ancestors included, each of them once.

    Args:
        record: the slide.
        level: of the store.
        region: in pixels of the level, inside it.
        cached: the tile if it has been drawn before.
        allow_generated: False refuses regions with pixels that a network would draw.
        halo: pixels around a tile that its networks are shown.

    Raises:
        GeneratedPixelsError: such a region, refused.
    """
    if record.info.synthetic and not allow_generated:
        raise GeneratedPixelsError(
            f"level {level}, rows from {region.y0}, columns from {region.x0}: this slide never "
            "existed, all of it is generated, and allow_generated is off"
        )
    plan = Plan()
    regions = [region]
    for k in range(level, LEVELS):
        picture = record.picture_for(k)
        if picture is not None:
            for part in regions:
                chunks = picture[1].chunks(part.scale_up(1 << (k - picture[0])))
                plan.pictures |= {(picture[0], *chunk) for chunk in chunks}
            return plan
        tiles = _tiles(record, k, regions)
        if k == level and not allow_generated:
            _refuse_generated(record, tiles)
        regions = _plan_tiles(record, plan, tiles, cached, halo)
        if not regions:
            return plan
    return plan


def _tiles(record: SlideRecord, level: int, regions: list[Region]) -> list[Tile]:
    shape = record.level_shape(level)
    cells = {c for part in regions for c in part.clip(shape).scale_down(PATCH).cells()}
    return [(level, ty, tx) for ty, tx in sorted(cells)]


def _plan_tiles(
    record: SlideRecord,
    plan: Plan,
    tiles: list[Tile],
    cached: Callable[[Tile], Pixels | None],
    halo: int,
) -> list[Region]:
    """Enter tiles of one level; returns what the level above must show for them."""
    parents = []
    for tile in tiles:
        pixels = cached(tile)
        if pixels is not None:
            plan.ready[tile] = pixels
            continue
        level, ty, tx = tile
        window = tile_window(ty, tx, halo)
        plan.missing.setdefault(level, []).append(tile)
        if record.is_sketched(level):
            plan.embeddings |= _embedding_chunks(record, sketch_cells(tile))
        else:
            parents.append(parent_region(window))
            if record.is_generated(*tile):
                plan.embeddings |= _embedding_chunks(record, embedding_region(window, level))
        for part in roi_parts(record, tile):
            if record.roi is not None:
                plan.roi |= record.roi.chunks(part)
    return parents


def sketch_cells(tile: Tile) -> Region:
    """The grid cells that a sketched tile is computed from; may stick out of the grid."""
    level, ty, tx = tile
    return Region(ty, tx, ty + 1, tx + 1).scale_up(1 << level).grow(MARGIN)


def _embedding_chunks(record: SlideRecord, cells: Region) -> set[tuple[int, int]]:
    cells = cells.clip(record.tissue.shape[:2])
    (gy, gx) = record.embedding_chunk
    rows = range(cells.y0 // gy, -(-cells.y1 // gy))
    columns = range(cells.x0 // gx, -(-cells.x1 // gx))
    return {(i, j) for i in rows for j in columns if record.has_embeddings((i, j))}


def roi_parts(record: SlideRecord, tile: Tile) -> list[Region]:
    """The parts of a tile that are kept measured, in level-0 pixels."""
    level, ty, tx = tile
    place = Region(ty, tx, ty + 1, tx + 1).scale_up(PATCH << level).clip(record.info.shape)
    parts = [place.intersect(Region(*corners)) for corners in record.info.roi]
    return [part for part in parts if not part.empty]


def _refuse_generated(record: SlideRecord, tiles: list[Tile]) -> None:
    for level, ty, tx in tiles:
        if record.is_generated(level, ty, tx):
            raise GeneratedPixelsError(
                f"level {level}, rows from {ty * PATCH}, columns from {tx * PATCH}: these pixels "
                f"would be generated and allow_generated is off; the measured levels of this "
                f"slide are {sorted(record.pictures)}, its measured tiles have {MEASURED} in tissue"
            )
