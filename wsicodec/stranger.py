"""Reads a store as somebody would who has zarr and never heard of wsicodec.

The demo runs this file as a program of its own, so it must not import from the package. Arguments:
store, side of a view in pixels, number of levels, file for the pixels. Prints one line of JSON.
"""

import json
import sys
import time
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

PATCH = 256  # pixels of level 0 behind one value of the tissue array


def main(store: str, side: int, levels: int, target: str) -> None:
    """Save a view of each of the finest `levels` levels to `target`; print where and how long.

    Args:
        store: what `zarr.open` takes.
        side: height and width of a view in pixels of its level, less where the level is smaller.
        levels: how many levels.
        target: an .npz file to write, an array per level under its number.
    """
    began = time.perf_counter()
    group: Any = zarr.open(store, mode="r")
    opened = time.perf_counter() - began
    assert "wsicodec" not in sys.modules
    tissue = np.asarray(group["tissue"][...]) > 0
    centre = _middle_of(tissue)
    views, pixels = [], {}
    for level in range(levels):
        array = group[str(level)]
        (y, height), (x, width) = (
            _span(c >> level, side, n) for c, n in zip(centre, array.shape[:2], strict=True)
        )
        began = time.perf_counter()
        pixels[str(level)] = array[y : y + height, x : x + width]
        views.append({"level": level, "y": y, "x": x, "seconds": time.perf_counter() - began})
    np.savez(target, **pixels)
    seen = {
        "opened": opened,
        "views": views,
        "shape": group["0"].shape,
        "embeddings": group["embeddings"].shape,
        "attributes": group.attrs["wsicodec"],
    }
    print(json.dumps(seen))  # noqa: T201


def _middle_of(tissue: NDArray[np.bool_]) -> tuple[int, int]:
    """A level-0 place (y, x) in the tissue, near the median of it."""
    ys, xs = np.nonzero(tissue) if tissue.any() else np.nonzero(~tissue)
    nearest = np.argmin((ys - np.median(ys)) ** 2 + (xs - np.median(xs)) ** 2)
    return int(ys[nearest]) * PATCH + PATCH // 2, int(xs[nearest]) * PATCH + PATCH // 2


def _span(centre: int, side: int, length: int) -> tuple[int, int]:
    """Start and length of a view around `centre` that stays inside `length` pixels."""
    size = min(side, length)
    return max(0, min(centre - size // 2, length - size)), size


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
