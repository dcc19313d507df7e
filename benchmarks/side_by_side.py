"""A place of a slide at 5x, 10x and 20x: the original, `standard` and `semantic`, left to right.

    python -m benchmarks.side_by_side SLIDE --at Y,X --out FILE.jpg [--mpp 0.5]

Y,X is the middle in pixels of level 0. The stores are written anew, and gone afterwards.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import zarr

import wsicodec
from benchmarks.decoder_sheets import SIDE, sheet, small_jpeg
from wsicodec.bench.output import Pixels
from wsicodec.geometry import Region

LEVELS = (2, 1, 0)
PRESETS = ("measured", "standard", "semantic")  # the first shows the original
MOST = 500_000  # bytes of the picture


def column(slide: Path, preset: str, middle: tuple[int, int], mpp: float | None) -> list[Pixels]:
    """The place as a preset keeps it, a square of SIDE pixels a level."""
    with tempfile.TemporaryDirectory() as work:
        store = Path(work) / "slide.zarr"
        wsicodec.encode(slide, store, preset=preset, mpp=mpp)
        group = zarr.open_group(store, mode="r")
        return [_square(group, level, middle) for level in LEVELS]


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
    rows = list(zip(*columns, strict=True))
    given.out.write_bytes(small_jpeg(sheet(rows), MOST))


if __name__ == "__main__":
    main()
