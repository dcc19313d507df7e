"""What a reader knows of a slide before it draws: attributes, tissue grid and stored pictures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.images import ImageFormat, decode_image
from wsicodec.config import BLANK, GENERATED, StoreInfo
from wsicodec.geometry import Region, level_shape


@dataclass(frozen=True, slots=True)
class ImageArray:
    """A stored picture: where its chunks are and how they decode."""

    path: str  # of the array, below the slide's root
    shape: tuple[int, int]  # height, width in pixels of its level
    chunk: tuple[int, int]  # height, width
    form: ImageFormat

    def chunks(self, region: Region) -> set[tuple[int, int]]:
        """The chunks that a region, in pixels of its level, touches."""
        part = region.clip(self.shape)
        if part.empty:
            return set()
        rows = range(part.y0 // self.chunk[0], -(-part.y1 // self.chunk[0]))
        columns = range(part.x0 // self.chunk[1], -(-part.x1 // self.chunk[1]))
        return {(i, j) for i in rows for j in columns}

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """The (h, w, 3) pixels of a chunk; raises BitstreamError on damage."""
        return decode_image(data, self.form, self.chunk)


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """One slide's facts, the same for every level and every reader."""

    info: StoreInfo
    tissue: NDArray[np.uint8]  # (gy, gx) of BLANK, GENERATED, MEASURED
    embedding_chunk: tuple[int, int]  # grid cells
    pictures: dict[int, ImageArray]  # by level
    roi: ImageArray | None

    def level_shape(self, level: int) -> tuple[int, int]:
        """Height and width of a level in pixels."""
        return level_shape(self.info.shape, level)

    def picture_for(self, level: int) -> tuple[int, ImageArray] | None:
        """The coarsest stored picture that is at least as fine as `level`, with its level."""
        levels = [k for k in self.pictures if k <= level]
        return (max(levels), self.pictures[max(levels)]) if levels else None

    def is_sketched(self, level: int) -> bool:
        """Whether a level is computed from the embeddings, without networks and a level above."""
        return any(k <= level for k in self.info.sketch)

    def is_generated(self, level: int, ty: int, tx: int) -> bool:
        """Whether some of the tile was not measured, and is tissue."""
        side = 1 << level
        cells = self.tissue[ty * side : (ty + 1) * side, tx * side : (tx + 1) * side]
        return bool((cells == GENERATED).any())

    def has_embeddings(self, chunk: tuple[int, int]) -> bool:
        """Whether a chunk of embeddings must exist: some of its patches are tissue."""
        (gy, gx), (i, j) = self.embedding_chunk, chunk
        part = self.tissue[i * gy : (i + 1) * gy, j * gx : (j + 1) * gx]
        return bool((part != BLANK).any())
