"""TIFF, BigTIFF and OME-TIFF through tifffile."""

import struct
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.slide.base import (
    WHITE,
    Facts,
    allowed_facts,
    over_white,
    reduce_to_fit,
    require_rgb,
)
from wsicodec.slide.jpeg import jpeg_quality
from wsicodec.slide.scale import ABSENT, Found, mpp_of_ome, mpp_of_resolution

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
ICC_TAG = 34675
AXES = {"YXS": (0, 1, 2), "SYX": (1, 2, 0), "CYX": (1, 2, 0), "YXC": (0, 1, 2)}
# What tifffile and imagecodecs raise over damaged directories and tiles.
DAMAGED = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
PHOTOMETRIC_RGB, PHOTOMETRIC_YCBCR = 2, 6


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """What a look at a TIFF's directories tells, before anyone reads its pixels."""

    ome: bool
    facts: Facts
    icc: bytes | None


def is_tiff(path: Path) -> bool:
    """Whether the file begins like a TIFF or BigTIFF."""
    with path.open("rb") as stream:
        return stream.read(4) in MAGIC


def inspect_tiff(path: Path) -> TiffFacts | None:
    """Look for what makes a TIFF unfit: a missing half, or too few channels.

    Returns None for directories that tifffile does not understand (OpenSlide may). Raises
    SlideError, naming the file, if the finest image lies partly outside the file or is not RGB.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            page = _finest(tif)
            ome = bool(tif.is_ome)
            facts = _page_facts(tif, page)
            icc = page.tags.valueof(ICC_TAG)
            _check_whole(tif, page, path.name)
            if not ome:
                _check_channels(page, path.name)
    except SlideError:
        raise
    except DAMAGED:
        return None
    return TiffFacts(ome, facts, icc if isinstance(icc, bytes) else None)


def _finest(tif: tifffile.TiffFile) -> Any:
    pages: list[Any] = [page.aspage() for page in tif.pages]
    return max(pages, key=lambda page: page.imagelength * page.imagewidth)


def _check_whole(tif: tifffile.TiffFile, page: Any, name: str) -> None:
    size = tif.filehandle.size
    end = max(
        (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0
    )
    if end > size:
        raise SlideError(
            f"expected {end} bytes in {name}, but it ends after {size}: the file is truncated; "
            "copy it again"
        )


def _check_channels(page: Any, name: str) -> None:
    if page.samplesperpixel not in (3, 4) or page.photometric not in (
        PHOTOMETRIC_RGB,
        PHOTOMETRIC_YCBCR,
    ):
        raise SlideError(
            f"expected three channels (RGB) in {name}, got {page.samplesperpixel} with "
            f"photometric {getattr(page.photometric, 'name', page.photometric)}; "
            "convert it to RGB first"
        )


def _page_facts(tif: tifffile.TiffFile, page: Any) -> Facts:
    compression = getattr(page.compression, "name", str(page.compression)).lower()
    quality = None
    if compression == "jpeg" and page.dataoffsets:
        tif.filehandle.seek(page.dataoffsets[0])
        head = tif.filehandle.read(min(page.databytecounts[0], 4096))
        quality = jpeg_quality(page.jpegtables or b"") or jpeg_quality(head)
    return allowed_facts(
        {
            "compression": compression,
            "quality": quality,
            "tile": page.tilewidth if page.is_tiled else None,
            "bits": page.bitspersample if isinstance(page.bitspersample, int) else None,
        }
    )


class TiffReader:
    """A TIFF or OME-TIFF through tifffile; tiled ones are read tile by tile.

    Raises SlideError, naming the file, on anything but 8-bit RGB.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._tif = tifffile.TiffFile(path)
        except DAMAGED as error:
            raise _unreadable(path.name, error) from error
        try:
            self._read_directories()
        except SlideError:
            self.close()
            raise
        except DAMAGED as error:
            self.close()
            raise _unreadable(path.name, error) from error

    def _read_directories(self) -> None:
        series = max(self._tif.series, key=lambda s: s.size)
        self._levels = [_Level(level, self._lock, self.path.name) for level in series.levels]
        page = self._levels[0].page
        self.shape: tuple[int, int] = self._levels[0].shape
        self._page = page
        self.facts: Facts = allowed_facts({"vendor": "tiff", **_page_facts(self._tif, page)})
        icc = page.tags.valueof(ICC_TAG)
        self.icc: bytes | None = icc if isinstance(icc, bytes) else None

    @property
    def mpp(self) -> float | None:
        """µm per pixel, None if absent; raises MppError if it is not believable."""
        return self._scale[0]

    @property
    def mpp_source(self) -> str:
        """The tag that `mpp` was read from."""
        return self._scale[1]

    @cached_property
    def _scale(self) -> Found:
        if self._tif.ome_metadata:
            found = mpp_of_ome(self._tif.ome_metadata, self.path.name)
            if found != ABSENT:
                return found
        x, y = (self._page.tags.valueof(code) for code in (282, 283))
        unit = self._page.tags.valueof(296, default=2)
        if not x or not y or not x[1] or not y[1]:
            return ABSENT
        return mpp_of_resolution(x[0] / x[1], y[0] / y[1], int(unit), self.path.name)

    def read(self, src_region: Region) -> NDArray[np.uint8]:
        """RGB pixels of a region of the finest level, (h, w, 3)."""
        return self._levels[0].read(src_region)

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide from the coarsest level that is fine enough, RGB (h, w, 3)."""
        fine = [level for level in self._levels if max(level.shape) >= max_side]
        level = fine[-1] if fine else self._levels[0]

        def rows(y0: int, y1: int) -> NDArray[np.uint8]:
            return level.read(Region(y0, 0, y1, level.shape[1]))

        return reduce_to_fit(rows, level.shape, max_side)

    def close(self) -> None:
        """Close the file."""
        self._tif.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Level:
    """One level of a TIFF: its pages, and how their samples become RGB."""

    def __init__(self, series: Any, lock: threading.Lock, name: str) -> None:
        self.name, self._lock, self._series = name, lock, series
        kept = [(a, n) for a, n in zip(series.axes, series.shape, strict=True) if n > 1]
        axes = "".join(a for a, _ in kept)
        if axes not in AXES:
            raise SlideError(
                f"expected one plane of three channels (RGB) in {name}, got axes {series.axes} "
                f"of shape {series.shape}; convert it to RGB first"
            )
        sizes = tuple(n for _, n in kept)
        self._order = AXES[axes]
        height, width, channels = (sizes[i] for i in self._order)
        require_rgb((height, width, channels), np.dtype(series.dtype), name)
        self.shape = (height, width)
        self._pages = [page for page in series.pages if page is not None]
        self.page = series.keyframe
        tiled = self.page.is_tiled and len(self._pages) in (1, channels)
        self._tiled = tiled and len(self._pages) * self.page.samplesperpixel == channels

    def read(self, region: Region) -> NDArray[np.uint8]:
        if not self._tiled:
            rows, columns = region.slices()
            return over_white(self._whole[rows, columns])
        planes = [self._read_page(page, region) for page in self._pages]
        return over_white(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=-1))

    @cached_property
    def _whole(self) -> NDArray[np.uint8]:
        """A level in strips: loaded once, because a strip is often the whole picture."""
        try:
            with self._lock:
                array = np.squeeze(self._series.asarray())
        except DAMAGED as error:
            raise _unreadable(self.name, error) from error
        return np.asarray(array.transpose(self._order), np.uint8)

    def _read_page(self, page: Any, region: Region) -> NDArray[np.uint8]:
        key = page.keyframe
        th, tw = key.tilelength, key.tilewidth
        down, across = -(-self.shape[0] // th), -(-self.shape[1] // tw)
        planes = key.samplesperpixel if key.planarconfig == 2 else 1
        out = np.full((*region.shape, key.samplesperpixel), WHITE, np.uint8)
        tiles = Region(region.y0 // th, region.x0 // tw, -(-region.y1 // th), -(-region.x1 // tw))
        for plane in range(planes):
            channels = slice(plane, plane + 1) if planes > 1 else slice(None)
            for ty, tx in tiles.cells():
                tile = self._decode(page, (plane * down + ty) * across + tx)
                if tile is None:
                    continue
                at = Region(ty * th, tx * tw, (ty + 1) * th, (tx + 1) * tw).intersect(region)
                rows, columns = at.slices((ty * th, tx * tw))
                y, x = at.slices((region.y0, region.x0))
                out[y, x, channels] = tile[rows, columns]
        return out

    def _decode(self, page: Any, index: int) -> NDArray[np.uint8] | None:
        count = page.databytecounts[index]
        if not count:
            return None  # Philips and sparse TIFF leave out what was not scanned
        try:
            with self._lock:
                handle = page.parent.filehandle
                handle.seek(page.dataoffsets[index])
                data = handle.read(count)
            if len(data) != count:
                raise EOFError(f"expected {count} bytes, got {len(data)}")
            key = page.keyframe
            tile = key.decode(data, index, jpegtables=key.jpegtables)[0]
        except DAMAGED as error:
            raise _unreadable(self.name, error) from error
        return None if tile is None else np.asarray(tile[0], np.uint8)


def _unreadable(name: str, error: Exception) -> SlideError:
    return SlideError(
        f"expected pixels in {name}, but they cannot be read: {error}; check that the file is whole"
    )
