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
from wsicodec.diffusion.noise import GRAIN, noise_field
from wsicodec.errors import BundleError
from wsicodec.geometry import PATCH, Region
from wsicodec.models.bundle import Bundle
from wsicodec.models.sketch import LEVEL, SIDE, Sketch, load_sketch
from wsicodec.resample import box_reduce

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Embeddings = Callable[[Region], Floats]  # (h, w, d) of cells of the grid, zero where there is none


@dataclass(frozen=True, slots=True)
class Sketcher:
    """Computes tiles of the sketch's own level and of those above."""

    sketch: Sketch

    def tile(self, record: SlideRecord, embeddings: Embeddings, tile: Tile) -> Pixels:
        """The (256, 256, 3) pixels of a tile; beyond the slide they mean nothing.

        embeddings: answers for regions inside the grid.
        """
        level, ty, tx = tile
        factor = 1 << (level - LEVEL)
        place = Region(ty, tx, ty + 1, tx + 1).scale_up(factor)
        whole = np.full((PATCH * factor, PATCH * factor, 3), record.info.background, np.uint8)
        height, width = record.level_shape(LEVEL)
        for uy, ux in place.cells():
            if uy * PATCH < height and ux * PATCH < width:
                at = Region(uy, ux, uy + 1, ux + 1).scale_up(PATCH)
                part = at.slices((place.y0 * PATCH, place.x0 * PATCH))
                whole[part] = self._own_tile(record, embeddings, (LEVEL, uy, ux))
        return box_reduce(whole, factor)

    def _own_tile(self, record: SlideRecord, embeddings: Embeddings, tile: Tile) -> Pixels:
        cells = sketch_cells(tile)
        inside = cells.clip(record.tissue.shape[:2])
        rows = inside.y0 - cells.y0, cells.y1 - inside.y1
        columns = inside.x0 - cells.x0, cells.x1 - inside.x1
        # Beyond a picture's border lies what lies at it: glass, or tissue that was cut off.
        vectors = np.pad(embeddings(inside), (rows, columns, (0, 0)), mode="edge")
        tissue = np.asarray(vectors.any(axis=-1))
        grain = noise_field(record.info.slide, GRAIN, cells.scale_up(SIDE), 1)[0]
        drawn = self.sketch.draw(vectors, tissue, grain, record.info.background)
        kept = slice(MARGIN * SIDE, -MARGIN * SIDE)
        return drawn[kept, kept]


def load_sketcher(bundle: Bundle, wanted: Mapping[int, str]) -> Sketcher:
    """What computes a slide's sketch.

    wanted: level and digest, as the store says them. Raises BundleError if the bundle has another.
    """
    sketch = load_sketch(bundle)
    if sketch is not None and wanted == {LEVEL: sketch.digest}:
        return Sketcher(sketch)
    raise BundleError(
        f"expected bundle {bundle.name} to make the sketch with the digest "
        f"{', '.join(wanted.values())[:16]}…, found that {bundle.path} makes another or none; "
        "put back the bundle that the slide was encoded with, or encode it again"
    )
