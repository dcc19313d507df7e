"""A place of a slide at 5x, 10x and 20x: the original, `standard` and `semantic`, left to right.

    python -m benchmarks.side_by_side SLIDE --at Y,X --out FILE.jpg [--mpp 0.5]

Y,X is the middle in pixels of level 0. Both stores are written anew, and gone afterwards.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from PIL import Image

import wsicodec
from wsicodec.geometry import Region

LEVELS = (2, 1, 0)
PRESETS = ("measured", "standard", "semantic")  # the first shows the original
SIDE = 384  # pixels of a panel
GAP = 6
QUALITY = 88
Pixels = NDArray[np.uint8]


def column(slide: Path, preset: str, middle: tuple[int, int], mpp: float | None) -> Pixels:
    """The place as a preset keeps it, level above level: (3 * SIDE, SIDE, 3)."""
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "slide.zarr"
        wsicodec.encode(slide, store, preset=preset, mpp=mpp)
        group = zarr.open_group(store, mode="r")
        return np.concatenate([_square(group, level, middle) for level in LEVELS])


def _square(group: zarr.Group, level: int, middle: tuple[int, int]) -> Pixels:
    y, x = ((at >> level) - SIDE // 2 for at in middle)
    place = Region(y, x, y + SIDE, x + SIDE)
    array = group[str(level)]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[place.slices()], np.uint8)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser("benchmarks.side_by_side", description=__doc__.split("\n")[0])
    parser.add_argument("slide", type=Path)
    parser.add_argument("--at", required=True, help="Y,X in pixels of level 0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mpp", type=float, help="of a slide that does not say")
    given = parser.parse_args()
    y, x = (int(part) for part in given.at.split(","))
    columns = [column(given.slide, preset, (y, x), given.mpp) for preset in PRESETS]
    gap = np.full((len(columns[0]), GAP, 3), 255, np.uint8)
    sheet = np.concatenate([columns[0], gap, columns[1], gap, columns[2]], axis=1)
    Image.fromarray(sheet).save(given.out, quality=QUALITY)


if __name__ == "__main__":
    main()
