"""Which reader opens which source: OpenSlide, else tifffile, else a flat image."""

import os
from pathlib import Path

from wsicodec.errors import SlideError
from wsicodec.slide.array_reader import ArrayLike, ArrayReader, open_image
from wsicodec.slide.base import SlideReader
from wsicodec.slide.passthrough import jpeg_tiles
from wsicodec.slide.scaled import Slide
from wsicodec.slide.tile_reader import TileReader

Source = str | os.PathLike[str] | ArrayLike | SlideReader


def open_slide(source: Source, mpp: float | None = None) -> Slide:
    """Open a slide in the frame of the store's level 0, about 20x.

    source: a path; an array (h, w, 3) of uint8; or anything that reads like a SlideReader.
    mpp: µm per pixel of the source's finest level, instead of what its metadata says.

    Raises SlideError, naming the file, if it cannot be read, and MppError if neither the file
    nor the caller knows the scale. Use it as a context manager.
    """
    reader = open_reader(source)
    name = Path(source).name if isinstance(source, str | os.PathLike) else "the array"
    try:
        return Slide(reader, mpp, name)
    except BaseException:
        reader.close()
        raise


def open_reader(source: Source) -> SlideReader:
    """Open a source as it is; see `open_slide` for what it may be and for the errors."""
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source))
    if isinstance(source, SlideReader):
        return source
    if hasattr(source, "dtype") and hasattr(source, "shape"):
        return ArrayReader(source)
    raise SlideError(
        f"expected a path, an array or a SlideReader as the slide, got {type(source).__name__}"
    )


def _open_path(path: Path) -> SlideReader:
    _check_file(path)
    from wsicodec.slide import openslide_reader, tiff_reader

    tiff = tiff_reader.is_tiff(path)
    found = tiff_reader.inspect_tiff(path) if tiff else None
    # OpenSlide sees the first plane of an OME-TIFF and nothing of its physical size.
    if openslide_reader.detects(path) and not (found and found.ome):
        try:
            return _by_tiles(openslide_reader.OpenSlideReader(path, found))
        except SlideError:
            if not tiff:
                raise
    return _by_tiles(tiff_reader.TiffReader(path)) if tiff else open_image(path)


def _by_tiles(reader: SlideReader) -> SlideReader:
    """The same slide by the shorter way, where its tiles allow that."""
    tiles = jpeg_tiles(reader)
    return reader if tiles is None else TileReader(reader, tiles)


def _check_file(path: Path) -> None:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise SlideError(f"expected a slide file, but {path.name} {what}; check the path")
    if not path.stat().st_size:
        raise SlideError(f"expected a slide, but {path.name} is empty (0 bytes); copy it again")
