"""A shorter way to the pixels of plain tiled JPEG: decode the file's own tiles.

OpenSlide paints tiles onto a premultiplied canvas that is then turned back into RGB. For files
whose tiles simply abut, decoding them here gives the same bytes in a fifth of the time.
"""

from functools import lru_cache

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.slide.base import Facts, SlideReader
from wsicodec.slide.passthrough import JpegTiles

KEPT = 64 << 20  # bytes of decoded tiles; rows of patches and rows of tiles do not coincide


class TileReader:
    """The slide of another reader, its finest level decoded tile by tile.

    inner: knows everything but the finest level's pixels, and those of tiles that were not scanned.
    tiles: the same file's coded tiles.
    """

    def __init__(self, inner: SlideReader, tiles: JpegTiles) -> None:
        self.inner = inner
        self.path = tiles.path
        self.tiles = tiles
        height, width = tiles.tile_shape
        self._tile = lru_cache(max(1, KEPT // (3 * height * width)))(self._decode)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the finest level in pixels."""
        return self.inner.shape

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel, None if absent."""
        return self.inner.mpp

    @property
    def mpp_source(self) -> str:
        """The property that `mpp` was read from."""
        return self.inner.mpp_source

    @property
    def icc(self) -> bytes | None:
        """The embedded ICC profile."""
        return self.inner.icc

    @property
    def facts(self) -> Facts:
        """Harmless facts."""
        return self.inner.facts

    def read(self, src_region: Region) -> NDArray[np.uint8]:
        """RGB pixels (h, w, 3) of a region inside `shape`."""
        out = np.empty((*src_region.shape, 3), np.uint8)
        height, width = self.tiles.tile_shape
        for ty in range(src_region.y0 // height, -(-src_region.y1 // height)):
            for tx in range(src_region.x0 // width, -(-src_region.x1 // width)):
                place = Region(ty * height, tx * width, (ty + 1) * height, (tx + 1) * width)
                part = place.intersect(src_region)
                tile = self._tile(ty, tx)
                at = part.slices((src_region.y0, src_region.x0))
                out[at] = tile[part.slices((place.y0, place.x0))]
        return out

    def _decode(self, ty: int, tx: int) -> NDArray[np.uint8]:
        coded = self.tiles.read(ty, tx)
        height, width = self.tiles.tile_shape
        if not coded:
            place = Region(ty * height, tx * width, (ty + 1) * height, (tx + 1) * width)
            return self.inner.read(place.clip(self.shape))
        try:
            tile = imagecodecs.jpeg8_decode(
                coded,
                tables=self.tiles.tables or None,
                colorspace=self.tiles.colourspace,
                outcolorspace="RGB",
            )
        except (RuntimeError, ValueError) as error:
            raise SlideError(
                f"expected a JPEG tile at row {ty}, column {tx} of {self.tiles.name}, but it does "
                f"not decode: {error}; check that the file is whole"
            ) from error
        if tile.shape != (height, width, 3):
            raise SlideError(
                f"expected a JPEG tile of {height}x{width} RGB pixels at row {ty}, column {tx} of "
                f"{self.tiles.name}, got {tile.shape}; check that the file is whole"
            )
        return np.asarray(tile, np.uint8)

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide, cheaply, RGB (h, w, 3)."""
        return self.inner.overview(max_side)

    def close(self) -> None:
        """Release the file."""
        self._tile.cache_clear()
        self.tiles.close()
        self.inner.close()
