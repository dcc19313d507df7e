"""From a store to a pyramidal tiled TIFF, a row of tiles at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from wsicodec.config import StoreInfo
from wsicodec.errors import ConfigError, StoreExistsError
from wsicodec.geometry import LEVELS, PATCH, level_shape

Progress = Callable[[int, int, str], None]  # pieces done, pieces in all, what a piece is called
JPEG_QUALITY = 90
STRIP = 4096  # pixels of a row of tiles that are drawn at a time
SMALLEST = 256  # pixels; no level whose longer side is shorter, unless it is the only one
UM_PER_CM = 10_000.0


def export_tiff(
    group: zarr.Group,
    out: Path,
    level: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Draw a slide into a BigTIFF of JPEG tiles that OpenSlide opens, coarser levels included.

    Args:
        group: the store's root, from `wsicodec.store.publish.open_store`.
        out: the file; it appears under its name only when it is whole.
        level: the finest level to draw.
        overwrite: replace an existing file.
        progress: called with tiles done, tiles in all and "tiles".

    Returns:
        `out`.

    Raises:
        StoreExistsError: the file exists.
        ConfigError: no such level, or a name that is not a TIFF's.
    """
    info = StoreInfo.from_json(group.attrs.get("wsicodec"))
    if not 0 <= level < LEVELS:
        raise ConfigError(f"expected a level from 0 to {LEVELS - 1}, got {level}")
    if out.suffix.lower() not in (".tif", ".tiff"):
        raise ConfigError(f"expected a name ending in .tif or .tiff, got {out.name!r}")
    if out.exists() and not overwrite:
        raise StoreExistsError(
            f"expected nothing at {out}, but something stands there; "
            "give overwrite=True (on the command line --overwrite), or choose another name"
        )
    partial = out.with_name(f".{out.name}.partial")
    try:
        _write(group, info, partial, level, progress)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def _write(
    group: zarr.Group, info: StoreInfo, path: Path, finest: int, progress: Progress | None
) -> None:
    levels = [k for k in range(finest, LEVELS) if max(level_shape(info.shape, k)) >= SMALLEST]
    levels = levels or [finest]
    counter = _Counter(progress, sum(_tiles_of(info, level) for level in levels))
    icc = bytes(np.asarray(_array(group, "icc")[...])) if "icc" in info.source else None
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in levels:
            mpp = info.mpp * 2**level
            tiff.write(
                _tiles(_array(group, str(level)), counter),
                shape=(*level_shape(info.shape, level), 3),
                dtype=np.uint8,
                tile=(PATCH, PATCH),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": JPEG_QUALITY},
                resolution=(UM_PER_CM / mpp, UM_PER_CM / mpp),
                resolutionunit="CENTIMETER",
                subfiletype=0 if level == finest else 1,
                description=_description(info) if level == finest else None,
                software=False,
                metadata=None,
                iccprofile=icc,
                maxworkers=1,
            )


def _description(info: StoreInfo) -> str:
    return f"Decoded by wsicodec from preset {info.preset}. {info.notice}"


def _tiles(array: "zarr.Array[Any]", counter: "_Counter") -> Iterator[NDArray[np.uint8]]:
    """Whole tiles, row by row; the border's are filled up by repeating their last pixels."""
    height, width = array.shape[:2]
    for y in range(0, height, PATCH):
        for x0 in range(0, width, STRIP):
            strip = np.asarray(array[y : y + PATCH, x0 : x0 + STRIP], np.uint8)
            for x in range(0, strip.shape[1], PATCH):
                tile = strip[:, x : x + PATCH]
                gaps = PATCH - tile.shape[0], PATCH - tile.shape[1]
                counter.add()
                yield np.pad(tile, ((0, gaps[0]), (0, gaps[1]), (0, 0)), mode="edge")


def _tiles_of(info: StoreInfo, level: int) -> int:
    height, width = level_shape(info.shape, level)
    return -(-height // PATCH) * -(-width // PATCH)


def _array(group: zarr.Group, path: str) -> "zarr.Array[Any]":
    node = group[path]
    assert isinstance(node, zarr.Array)
    return node


class _Counter:
    """Tells how many tiles are written."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, "tiles")
