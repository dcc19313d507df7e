"""The source's own JPEG tiles, byte for byte, for a store that keeps them as they are."""

import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from wsicodec.errors import SlideError
from wsicodec.slide.base import SlideReader
from wsicodec.slide.openslide_reader import OpenSlideReader
from wsicodec.slide.tiff_reader import TiffReader

JPEG, CONTIGUOUS = 7, 1  # TIFF's Compression and PlanarConfiguration
COLOURSPACES = {2: "RGB", 6: "YCBCR"}  # of TIFF's PhotometricInterpretation
# Other makes move or overlap their tiles on the way to the picture that OpenSlide shows.
PLAIN_VENDORS = ("aperio", "generic-tiff", "tiff")


class JpegTiles:
    """The coded tiles of a slide's finest level.

    A tile decodes with `imagecodecs.jpeg_decode(tile, tables=tables or None,
    colorspace=colourspace, outcolorspace="RGB")` to `tile_shape`; tiles at the right and lower
    edge are as large as all others and stick out of `shape`.

    tile_shape: height and width of every tile in pixels.
    grid: rows and columns of tiles.
    tables: the JPEG stream of shared tables, empty if every tile has its own.
    colourspace: what the coded channels mean, "RGB" or "YCBCR".
    name: of the file, for messages.
    """

    def __init__(self, path: Path, shape: tuple[int, int], name: str) -> None:
        self._tif = tifffile.TiffFile(path)
        self._lock, self.name = threading.Lock(), name
        try:
            page = next(p for p in _pages(self._tif) if _fits(p, shape))
        except StopIteration:
            self._tif.close()
            raise SlideError(f"expected JPEG tiles in {name}, got none that are RGB") from None
        self.path, self.shape = path, shape
        self.tile_shape: tuple[int, int] = (page.tilelength, page.tilewidth)
        self.grid: tuple[int, int] = (
            -(-shape[0] // page.tilelength),
            -(-shape[1] // page.tilewidth),
        )
        self.tables: bytes = page.jpegtables or b""
        self.colourspace: str = COLOURSPACES[int(page.photometric)]
        self._offsets, self._counts = page.dataoffsets, page.databytecounts

    def read(self, ty: int, tx: int) -> bytes:
        """The coded bytes of the tile in row `ty`, column `tx`; empty if it was not scanned."""
        rows, columns = self.grid
        if not (0 <= ty < rows and 0 <= tx < columns):
            raise IndexError(f"expected a tile inside {self.grid}, got ({ty}, {tx})")
        index = ty * columns + tx
        with self._lock:
            self._tif.filehandle.seek(self._offsets[index])
            data = self._tif.filehandle.read(self._counts[index])
        if len(data) != self._counts[index]:
            raise SlideError(f"expected tile ({ty}, {tx}) in {self.name}: the file is truncated")
        return data

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def jpeg_tiles(reader: SlideReader) -> JpegTiles | None:
    """The coded tiles of a source's finest level, or None where they are not plain JPEG.

    That takes a TIFF or SVS tiled in RGB or YCbCr JPEG.
    """
    if not isinstance(reader, OpenSlideReader | TiffReader):
        return None
    if reader.facts.get("vendor") not in PLAIN_VENDORS:
        return None
    try:
        return JpegTiles(reader.path, reader.shape, reader.path.name)
    except SlideError:
        return None


def _pages(tif: tifffile.TiffFile) -> list[Any]:
    return [page.aspage() for page in tif.pages]


def _fits(page: Any, shape: tuple[int, int]) -> bool:
    return (
        (page.imagelength, page.imagewidth) == shape
        and bool(page.is_tiled)
        and page.compression == JPEG
        and page.planarconfig == CONTIGUOUS
        and page.samplesperpixel == 3
        and page.dtype == np.uint8
        and int(page.photometric) in COLOURSPACES
    )
