"""A slide in the store's own frame: reduced by a power of two to about 20x."""

from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import MppError
from wsicodec.geometry import Region, check_mpp, reduction_for
from wsicodec.resample import box_reduce
from wsicodec.slide.base import WHITE, Facts, SlideReader
from wsicodec.slide.passthrough import JpegTiles
from wsicodec.slide.tile_reader import TileReader

PIECE = 4096  # source pixels; side of what is read at once while reducing


class Slide:
    """What the encoder reads: level 0 of the store, made from a source by an exact box filter.

    reader: the source.
    mpp: µm per pixel of the source's finest level; overrides the source's own.
    name: base name of the file, for messages only; it is never stored.

    Raises MppError if neither the source nor the caller knows the scale, or it is not believable.
    """

    def __init__(
        self, reader: SlideReader, mpp: float | None = None, name: str = "the slide"
    ) -> None:
        known = reader.mpp if mpp is None else mpp
        if known is None:
            raise MppError(
                f"expected the micrometres per pixel (mpp) in {name}, but it does not say; "
                "give it with mpp=0.5, on the command line --mpp 0.5"
            )
        src_mpp = check_mpp(known)
        self.reader = reader
        self.name = name
        self.reduction = reduction_for(src_mpp)
        self.mpp = src_mpp * self.reduction
        self.mpp_source = reader.mpp_source if mpp is None else "caller"
        height, width = reader.shape
        self.shape = (-(-height // self.reduction), -(-width // self.reduction))

    @property
    def icc(self) -> bytes | None:
        """The source's ICC profile."""
        return self.reader.icc

    @property
    def facts(self) -> Facts:
        """Harmless facts about the source, see `wsicodec.slide.base.FACTS`."""
        return self.reader.facts

    @property
    def tiles(self) -> JpegTiles | None:
        """The source's own JPEG tiles, where level 0 is made of them unchanged."""
        if self.reduction == 1 and isinstance(self.reader, TileReader):
            return self.reader.tiles
        return None

    def read(self, l0_region: Region) -> NDArray[np.uint8]:
        """RGB pixels (h, w, 3) of a region of level 0; outside the slide it is white."""
        inside = l0_region.clip(self.shape)
        if inside == l0_region:
            return self._read_inside(l0_region)
        out = np.full((*l0_region.shape, 3), WHITE, np.uint8)
        if not inside.empty:
            out[inside.slices((l0_region.y0, l0_region.x0))] = self._read_inside(inside)
        return out

    def _read_inside(self, l0_region: Region) -> NDArray[np.uint8]:
        if l0_region.empty:
            return np.empty((*l0_region.shape, 3), np.uint8)
        if self.reduction == 1:
            return self.reader.read(l0_region)
        out = np.empty((*l0_region.shape, 3), np.uint8)
        step = max(1, PIECE // self.reduction)
        for y in range(l0_region.y0, l0_region.y1, step):
            for x in range(l0_region.x0, l0_region.x1, step):
                piece = Region(y, x, min(y + step, l0_region.y1), min(x + step, l0_region.x1))
                source = piece.scale_up(self.reduction).clip(self.reader.shape)
                at = piece.slices((l0_region.y0, l0_region.x0))
                out[at] = box_reduce(self.reader.read(source), self.reduction)
        return out

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide, cheaply, RGB (h, w, 3), longer side at most `max_side` pixels."""
        return self.reader.overview(max_side)

    def close(self) -> None:
        """Release the source."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
