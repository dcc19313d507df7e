"""The coarse levels of a slide that keeps no picture: the sketch that its embeddings make.

A pixel follows from the embeddings within MARGIN cells of its own and the noise at its place. It is
computed on grids of one shape whatever was asked for, so that not even a rounding depends on that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.plan import MARGIN, Tile, sketch_cells
from wsicodec.codec.record import SlideRecord
from wsicodec.codec.tables import embedding_tables
from wsicodec.coding.quantizer import EmbeddingTables, recover
from wsicodec.diffusion.noise import GRAIN, noise_field
from wsicodec.errors import BundleError
from wsicodec.geometry import PATCH, Region
from wsicodec.models.bundle import Bundle
from wsicodec.models.edm import EdmNetwork, has_edm, load_edm
from wsicodec.resample import box_reduce

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Embeddings = Callable[[Region], Floats]  # (h, w, d) of cells of the grid, zero where there is none


@dataclass(frozen=True, slots=True)
class Sketcher:
    """Computes tiles of the sketch's own level and of those above."""

    network: EdmNetwork
    tables: EmbeddingTables  # that the embeddings were decoded with

    def tile(self, record: SlideRecord, embeddings: Embeddings, tile: Tile) -> Pixels:
        """The (256, 256, 3) pixels of a tile; beyond the slide they mean nothing.

        embeddings: answers for regions inside the grid.
        """
        level, ty, tx = tile
        own = self.network.sketch.level
        factor = 1 << (level - own)
        place = Region(ty, tx, ty + 1, tx + 1).scale_up(factor)
        whole = np.full((PATCH * factor, PATCH * factor, 3), record.info.background, np.uint8)
        height, width = record.level_shape(own)
        for uy, ux in place.cells():
            if uy * PATCH < height and ux * PATCH < width:
                at = Region(uy, ux, uy + 1, ux + 1).scale_up(PATCH)
                part = at.slices((place.y0 * PATCH, place.x0 * PATCH))
                whole[part] = self._own_tile(record, embeddings, (own, uy, ux))
        return box_reduce(whole, factor)

    def _own_tile(self, record: SlideRecord, embeddings: Embeddings, tile: Tile) -> Pixels:
        cells, side = sketch_cells(tile), self.network.sketch.side
        inside = cells.clip(record.tissue.shape[:2])
        rows = inside.y0 - cells.y0, cells.y1 - inside.y1
        columns = inside.x0 - cells.x0, cells.x1 - inside.x1
        # Beyond a picture's border lies what lies at it: glass, or tissue that was cut off.
        channels = np.pad(self._channels(embeddings(inside)), (rows, columns, (0, 0)), mode="edge")
        grain = noise_field(record.info.slide, GRAIN, cells.scale_up(side), 1)[0]
        drawn = self.network.sketch.draw(channels, grain, record.info.background)
        kept = slice(MARGIN * side, -MARGIN * side)
        return drawn[kept, kept]

    def _channels(self, grid: Floats) -> Floats:
        """Coverage and whitened coefficients (h, w, 1 + k) of embeddings (h, w, d)."""
        tissue = grid.any(axis=-1)
        channels = np.zeros((*tissue.shape, self.network.config.channels), np.float32)
        channels[..., 0] = np.where(tissue, 1, -1)
        symbols = recover(grid[tissue], self.tables)
        channels[tissue, 1:] = (symbols - self.network.mean[0]) / self.network.deviation[0]
        return channels


def load_sketcher(bundle: Bundle, wanted: Mapping[int, str]) -> Sketcher:
    """What computes a slide's sketch.

    wanted: level and digest, as the store says them. Raises BundleError if the bundle has another.
    """
    tables = embedding_tables(bundle.fingerprint)
    if has_edm(bundle):
        network = load_edm(bundle)
        if wanted == {network.sketch.level: network.sketch.digest}:
            return Sketcher(network, tables)
    raise BundleError(
        f"expected bundle {bundle.name} to hold the embedding diffusion model whose sketch has the "
        f"digest {', '.join(wanted.values())[:16]}…, found {bundle.path} with another or none; "
        "put back the bundle that the slide was encoded with, or encode it again"
    )
