"""Fields of tissue out of slides, pictures and folders, and one large picture made of them.

A store's metadata costs some 13 kB whatever the slide's size, which would be most of a field of a
megapixel and is next to nothing of a slide. So the fields of a group are laid out on white, far
enough apart that no window sees two of them, and coded together as a slide is. Rivals, which have
no windows, get the same fields edge to edge and pay for no white.
"""

import csv
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import NATIVE_MPP, PATCH, Region
from wsicodec.slide import open_slide
from wsicodec.slide.tissue import find_tissue

Pixels = NDArray[np.uint8]
STEP = 2 * PATCH  # pixels; fields begin at its multiples, so that windows of level 1 hold one
SIDE = 2 * STEP  # pixels a side of a field, at most
TISSUE = 0.5  # of a field's patches, at least
NEAR = 1.5  # times 0.5 µm/px, either way; what lies beyond is not 20x
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif"}


@dataclass(frozen=True)
class Field:
    """Level-0 pixels (h, w, 3), sides multiples of 512, and the file they come from."""

    name: str
    file: str
    rgb: Pixels
    y: int = 0  # of its corner in the mosaic
    x: int = 0

    @property
    def region(self) -> Region:
        """Its place in the mosaic."""
        height, width = self.rgb.shape[:2]
        return Region(self.y, self.x, self.y + height, self.x + width)


@dataclass(frozen=True)
class Mosaic:
    """The fields on white, and where each lies."""

    name: str
    rgb: Pixels
    fields: tuple[Field, ...]

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that tell one set of fields from another, however it is laid out."""
        found = hashlib.sha256()
        for field in sorted(self.fields, key=lambda f: f.name):
            found.update(field.name.encode() + field.rgb.tobytes())
        return found.hexdigest()[:12]

    @property
    def pixels(self) -> int:
        """Pixels of the fields alone."""
        return sum(f.rgb.shape[0] * f.rgb.shape[1] for f in self.fields)

    @cached_property
    def tissue(self) -> NDArray[np.bool_]:
        """Whether each patch of 256 px of each field, in order, is tissue to an encoder."""
        with open_slide(self.rgb, mpp=NATIVE_MPP) as slide:
            grid = find_tissue(slide).grid
        return np.concatenate(
            [grid[f.region.scale_down(PATCH).slices()].ravel() for f in self.fields]
        )

    @property
    def tissue_pixels(self) -> int:
        """Level-0 pixels in patches with tissue: what rates are told over."""
        return int(self.tissue.sum()) * PATCH**2

    def crops(self, rgb: Pixels, level: int = 0) -> list[Pixels]:
        """The fields' parts of a picture of the whole mosaic at `level`."""
        places = [f.region.scale_down(1 << level).slices() for f in self.fields]
        return [np.ascontiguousarray(rgb[place]) for place in places]


def sources(path: Path, split: str, mpp: float | None) -> Iterator[tuple[Path, float | None]]:
    """Files and their µm/px: of an index (columns file, split, est. mpp), a folder, or a file."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                if row["split"] == split and row["est. mpp"]:
                    yield path.parent / row["file"], float(row["est. mpp"])
    elif path.is_dir():
        yield from ((p, mpp) for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES)
    else:
        yield path, mpp


def cut(path: Path, mpp: float | None, most: int) -> list[Field]:
    """Up to `most` fields of a slide or picture, evenly among those with tissue.

    Nothing of what is not near 20x, or smaller than 512 pixels a side.
    """
    with open_slide(path, mpp=mpp) as slide:
        if not NATIVE_MPP / NEAR <= slide.mpp <= NATIVE_MPP * NEAR or min(slide.shape) < STEP:
            return []
        tissue = find_tissue(slide).grid
        sides = [min(SIDE, n // STEP * STEP) for n in slide.shape]
        corners = [
            (y, x)
            for y in range(0, slide.shape[0] - sides[0] + 1, sides[0])
            for x in range(0, slide.shape[1] - sides[1] + 1, sides[1])
            if _share(tissue, y, x, sides) >= TISSUE
        ]
        kept = np.linspace(0, len(corners) - 1, min(most, len(corners))).round().astype(int)
        return [
            Field(
                f"{path.name}@{y},{x}",
                path.name,
                slide.read(Region(y, x, y + sides[0], x + sides[1])),
            )
            for y, x in (corners[i] for i in kept)
        ]


def _share(tissue: NDArray[np.bool_], y: int, x: int, sides: Sequence[int]) -> float:
    rows, columns = (
        slice(a // PATCH, (a + n) // PATCH) for a, n in zip((y, x), sides, strict=True)
    )
    return float(tissue[rows, columns].mean())


def lay_out(name: str, fields: Sequence[Field], gap: int = STEP) -> Mosaic:
    """Fields in rows, tallest first, with `gap` pixels of white around each.

    Raises ConfigError where there are none.
    """
    if not fields:
        raise ConfigError(
            "expected fields of tissue near 20x (0.5 µm/px) of at least 512 pixels a side, found "
            "none; pictures that do not say their scale need --mpp"
        )
    area = sum((f.rgb.shape[0] + gap) * (f.rgb.shape[1] + gap) for f in fields)
    limit = max(math.isqrt(area), *(f.rgb.shape[1] + 2 * gap for f in fields))
    placed, y, x, tall = [], gap, gap, 0
    for field in sorted(fields, key=lambda f: (-f.rgb.shape[0], f.name)):
        height, width = field.rgb.shape[:2]
        if x > gap and x + width + gap > limit:
            y, x, tall = y + tall + gap, gap, 0
        placed.append(replace(field, y=y, x=x))
        x, tall = x + width + gap, max(tall, height)
    right = max(f.region.x1 for f in placed) + gap
    rgb = np.full((y + tall + gap, right, 3), 255, np.uint8)
    for field in placed:
        rgb[field.region.slices()] = field.rgb
    return Mosaic(name, rgb, tuple(placed))


def gather(
    path: Path, *, split: str = "val", mpp: float | None = None, fields: int = 4, files: int = 10**9
) -> list[Field]:
    """Fields of one input: at most `fields` of a file, of at most `files` that have any."""
    found: list[Field] = []
    used = 0
    for file, scale in sources(path, split, mpp):
        cut_out = cut(file, scale, fields)
        found += cut_out
        used += bool(cut_out)
        if used == files:
            break
    return found
