"""A planned region, computed: every missing tile drawn once, coarse levels first."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.draw import OWN_VIEW, Draw, Pixels, View, Window, blank_tile
from wsicodec.codec.plan import Plan, Tile, parent_region, roi_parts
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.codec.sketch import Sketcher
from wsicodec.codec.state import TileBoard
from wsicodec.diffusion.windows import embedding_region, tile_window
from wsicodec.geometry import LEVELS, PATCH, Region, magnification_index
from wsicodec.resample import box_reduce

Chunk = tuple[int, int]
Key = Callable[[Tile], tuple[object, ...]]


@dataclass(slots=True)
class Fetched:
    """Decoded chunks of stored arrays, as a plan asked for them."""

    embeddings: dict[Chunk, NDArray[np.float32]] = field(default_factory=dict)  # (gy, gx, d)
    pictures: dict[tuple[int, int, int], Pixels] = field(default_factory=dict)  # level, row, column
    roi: dict[Chunk, Pixels] = field(default_factory=dict)


@dataclass(slots=True)
class RegionJob:
    """One read of one region: fills in the plan's missing tiles and puts the pixels together."""

    record: SlideRecord
    plan: Plan
    fetched: Fetched
    width: int  # of an embedding
    scale: float  # embeddings are divided by it for the networks
    draw: Draw | None  # None if the plan draws nothing
    batch: int  # windows per call of draw
    workers: Executor
    board: TileBoard
    key: Key  # of a tile on the board
    view: View = OWN_VIEW
    screen: Any = None  # `region_device.Screen`, where a device draws
    sketcher: Sketcher | None = None  # where the plan has sketched tiles

    def run(self, level: int, region: Region) -> Pixels:
        """The pixels of a region of a level; draws what is missing first."""
        for k in sorted(self.plan.missing, reverse=True):
            self.fill(self.plan.missing[k])
        return self.show(level, region)

    def show(self, level: int, region: Region) -> Pixels:
        """Pixels of a region whose tiles are there; beyond the slide the border is repeated."""
        inside = region.clip(self.record.level_shape(level))
        picture = self.record.picture_for(level)
        if picture is None:
            pixels = self._from_tiles(level, inside)
        else:
            pixels = self._from_picture(level, inside, *picture)
        if inside == region:
            return pixels
        rows = (inside.y0 - region.y0, region.y1 - inside.y1)
        columns = (inside.x0 - region.x0, region.x1 - inside.x1)
        return np.pad(pixels, (rows, columns, (0, 0)), mode="edge")

    def fill(self, tiles: list[Tile]) -> None:
        """Draw the tiles of one level that nobody else is drawing, then wait for the others'."""
        mine, theirs = [], []
        for tile in tiles:
            found = self.board.claim(self.key(tile))
            if found is None:
                mine.append(tile)
            elif isinstance(found, Future):
                theirs.append((tile, found))
            else:
                self.plan.ready[tile] = found
        self._draw_mine(mine)
        for tile, future in theirs:
            self.plan.ready[tile] = future.result()

    def _draw_mine(self, tiles: list[Tile]) -> None:
        open_tiles = set(tiles)
        try:
            for tile, pixels in self._draw_all(tiles):
                finished = self.finished(tile, pixels)
                self.plan.ready[tile] = finished
                self.board.publish(self.key(tile), finished)
                open_tiles.discard(tile)
        except BaseException as error:
            for tile in open_tiles:
                self.board.give_up(self.key(tile), error)
            raise

    def _draw_all(self, tiles: list[Tile]) -> list[tuple[Tile, Pixels]]:
        if any(self.record.is_sketched(level) for level, _, _ in tiles):
            return list(zip(tiles, self.workers.map(self._sketch, tiles), strict=True))
        parents = {tile: self._parent(tile) for tile in tiles}
        generated = [tile for tile in tiles if self.record.is_generated(*tile)]
        groups = [generated[i : i + self.batch] for i in range(0, len(generated), self.batch)]
        jobs = [(group, self.workers.submit(self._draw_group, group, parents)) for group in groups]
        drawn = [
            (tile, blank_tile(parents[tile], self.record.info.background, self.view.halo))
            for tile in tiles
            if tile not in set(generated)
        ]
        for group, job in jobs:
            drawn += zip(group, job.result(), strict=True)
        return drawn

    def _draw_group(self, tiles: list[Tile], parents: dict[Tile, Pixels | None]) -> list[Pixels]:
        if self.draw is None:
            raise TypeError("a plan with generated tiles needs networks")
        return self.draw([self._window(tile, parents[tile]) for tile in tiles])

    def _sketch(self, tile: Tile) -> Pixels:
        if self.sketcher is None:
            raise TypeError("a plan with sketched tiles needs a sketcher")
        return self.sketcher.tile(self.record, self._embeddings, tile)

    def _window(self, tile: Tile, parent: Pixels | None) -> Window:
        level, ty, tx = tile
        place = tile_window(ty, tx, self.view.halo)
        cells = embedding_region(place, level).clip(self.record.tissue.shape[:2])
        grid = self._embeddings(cells) / np.float32(self.scale)
        valid = np.asarray(grid.any(axis=-1))
        cond = self.view.look(grid, valid, (cells.y0, cells.x0), place, level)
        mag = magnification_index(self.record.info.mpp, level)
        return Window(level, ty, tx, mag, parent, cond)

    def _parent(self, tile: Tile) -> Pixels | None:
        level, ty, tx = tile
        if level + 1 >= LEVELS:
            return None
        return self.show(level + 1, parent_region(tile_window(ty, tx, self.view.halo)))

    def finished(self, tile: Tile, pixels: Pixels) -> Pixels:
        """A drawn tile cut to the slide, with what is kept measured laid over it."""
        level, ty, tx = tile
        height, width = (
            Region(ty, tx, ty + 1, tx + 1)
            .scale_up(PATCH)
            .clip(self.record.level_shape(level))
            .shape
        )
        pixels = np.ascontiguousarray(pixels[:height, :width])
        if self.record.roi is None:
            return pixels
        for part in roi_parts(self.record, tile):
            real = _from_chunks(self.record.roi, self.fetched.roi, part)
            place = part.scale_down(1 << level)
            rows, columns = place.slices((ty * PATCH, tx * PATCH))
            pixels[rows, columns] = box_reduce(real, 1 << level)
        return pixels

    def _embeddings(self, cells: Region) -> NDArray[np.float32]:
        """(gh, gw, d) of a region of grid cells; zero where a chunk holds nothing."""
        grid = np.zeros((*cells.shape, self.width), np.float32)
        gy, gx = self.record.embedding_chunk
        for (i, j), chunk in self.fetched.embeddings.items():
            place = Region(i * gy, j * gx, i * gy + chunk.shape[0], j * gx + chunk.shape[1])
            part = place.intersect(cells)
            if not part.empty:
                grid[part.slices((cells.y0, cells.x0))] = chunk[part.slices((place.y0, place.x0))]
        return grid

    def _from_tiles(self, level: int, region: Region) -> Pixels:
        out = np.empty((*region.shape, 3), np.uint8)
        for ty, tx in region.scale_down(PATCH).cells():
            tile = self.plan.ready[level, ty, tx]
            place = Region(ty * PATCH, tx * PATCH, (ty + 1) * PATCH, (tx + 1) * PATCH)
            part = place.intersect(region)
            out[part.slices((region.y0, region.x0))] = tile[part.slices((place.y0, place.x0))]
        return out

    def _from_picture(self, level: int, region: Region, k: int, array: ImageArray) -> Pixels:
        factor = 1 << (level - k)
        finer = region.scale_up(factor).clip(array.shape)
        chunks = {(i, j): px for (at, i, j), px in self.fetched.pictures.items() if at == k}
        return box_reduce(_from_chunks(array, chunks, finer), factor)


def _from_chunks(array: ImageArray, chunks: dict[Chunk, Pixels], region: Region) -> Pixels:
    out = np.empty((*region.shape, 3), np.uint8)
    height, width = array.chunk
    for i, j in array.chunks(region):
        place = Region(i * height, j * width, (i + 1) * height, (j + 1) * width)
        part = place.intersect(region)
        out[part.slices((region.y0, region.x0))] = chunks[i, j][part.slices((place.y0, place.x0))]
    return out
