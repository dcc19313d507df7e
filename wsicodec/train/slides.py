"""Slides as places to draw from, read where a sample lies and nowhere else.

Levels finer than COARSE are read from the slide and box-filtered; COARSE and what is coarser are
made once from the slide's own small levels and kept on disk, a hundredth of the slide's pixels,
beside a map of its tissue. However many slides there are, few are open at a time.
"""

import json
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.geometry import LEVELS, Region, level_shape, magnification_index
from wsicodec.resample import box_reduce
from wsicodec.train.augment import StainBend
from wsicodec.train.index import Entry
from wsicodec.train.keeping import made_whole

if TYPE_CHECKING:  # a lent card has no slides, and no library that reads them
    from wsicodec.slide import Slide

Pixels = NDArray[np.uint8]
WHITE = 255
COARSE = 4  # first level that is kept; a window of level 3 covers 8 x 8 times its own pixels
SMALLEST = 64  # pixels; a level with a shorter side is none
TISSUE_UM = 64.0  # µm, about; side of a cell of the tissue map, all of which stay in memory


class Shelf:
    """Open slides, the least recently read of which are closed again."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._open: OrderedDict[Path, Slide] = OrderedDict()
        weakref.finalize(self, _close, self._open)

    def slide(self, entry: Entry) -> "Slide":
        """The slide of an entry, opened if it is not; valid until `most` others are asked for."""
        if entry.path not in self._open:
            while len(self._open) >= self.most:
                self._open.popitem(last=False)[1].close()
            from wsicodec.slide import open_slide

            self._open[entry.path] = open_slide(entry.path, entry.mpp)
        self._open.move_to_end(entry.path)
        return self._open[entry.path]


def _close(slides: OrderedDict[Path, "Slide"]) -> None:
    while slides:
        slides.popitem()[1].close()


@dataclass(frozen=True)
class StreamedSlide:
    """One slide; level 0 is that of a store, so about 20x or what is nearest to it."""

    entry: Entry
    shape: tuple[int, int]  # height and width of level 0, pixels
    mpp: float  # µm per pixel of level 0
    tissue: NDArray[np.uint8] = field(repr=False)  # 0 to 255, share of tissue in each cell
    cell: float  # pixels of level 0; side of a cell of the tissue map
    folder: Path = field(repr=False)  # what was kept of it
    shelf: Shelf = field(repr=False)

    @property
    def name(self) -> str:
        """Its name in the index."""
        return self.entry.name

    @property
    def source(self) -> str:
        """Where it comes from."""
        return self.entry.source

    @property
    def kind(self) -> str:
        """What the index says it is."""
        return self.entry.kind

    @property
    def mag_index(self) -> int:
        """Magnification index of level 0."""
        return magnification_index(self.mpp, 0)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of every level."""
        every = [level_shape(self.shape, level) for level in range(LEVELS)]
        return [shape for level, shape in enumerate(every) if not level or min(shape) >= SMALLEST]

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""
        scale = (1 << level) / self.cell
        spans = []
        for first, size in zip((y, x), self.tissue.shape, strict=True):
            start = min(int(first * scale), size - 1)
            spans.append(slice(start, max(start + 1, int(np.ceil((first + side) * scale)))))
        return float(self.tissue[spans[0], spans[1]].mean() / 255)

    def corners(
        self, rng: np.random.Generator, level: int, side: int, count: int
    ) -> list[tuple[int, int]]:
        """Corners of windows in pixels of `level`, each laid at random over tissue."""
        below = self.tissue.cumsum(dtype=np.int64)
        chosen = np.searchsorted(below, rng.integers(below[-1], size=count), "right")
        cells = np.stack(np.divmod(chosen, self.tissue.shape[1]), 1)
        points = cells + rng.random((count, 2))
        l_points = points * (self.cell / (1 << level))
        most = np.maximum(np.array(self.shapes[level]) - side, 0)
        found = np.clip(l_points - side * rng.random((count, 2)), 0, most).astype(int)
        return [(int(y), int(x)) for y, x in found]

    def crop(self, level: int, y: int, x: int, side: int, bend: StainBend | None = None) -> Pixels:
        """A square of pixels (side, side, 3) of `level`, stained anew by `bend`; white outside.

        The bend works on the finest pixels that are read, as tissue is stained before it is seen.
        """
        region = Region(y, x, y + side, x + side)
        if level < COARSE:
            rgb = self.shelf.slide(self.entry).read(region.scale_up(1 << level))
            return box_reduce(rgb if bend is None else bend.apply(rgb), 1 << level)
        kept = np.load(self.folder / f"level_{level}.npy", mmap_mode="r")
        inside = region.clip((kept.shape[0], kept.shape[1]))
        rgb = np.full((side, side, 3), WHITE, np.uint8)
        if not inside.empty:
            rgb[inside.slices((y, x))] = kept[inside.slices()]
        return rgb if bend is None else bend.apply(rgb)


def stream_slides(
    entries: Sequence[Entry], cache: Path, most_open: int, rank: int = 0
) -> list[StreamedSlide]:
    """Every slide with tissue; what is not kept of it yet is made now.

    most_open: slides that are open at a time.
    rank: of this process; processes begin at different slides, and what one has made serves all.
    """
    shelf = Shelf(most_open)
    for entry in [*entries[rank:], *entries[:rank]]:
        if not (cache / entry.digest / "slide.json").exists():
            _keep(shelf.slide(entry), cache / entry.digest)
    slides = []
    for entry in entries:
        folder = cache / entry.digest
        facts = json.loads((folder / "slide.json").read_text("utf-8"))
        shape, tissue = tuple(facts["shape"]), np.load(folder / "tissue.npy")
        if tissue.any():
            told = facts["mpp"], tissue, facts["cell"]
            slides.append(StreamedSlide(entry, shape, *told, folder, shelf))
        else:
            warnings.warn(f"{entry.name} holds no tissue and is left out", stacklevel=2)
    return slides


def _keep(slide: "Slide", folder: Path) -> None:
    """Write coarse levels, tissue and facts of a slide, whole or not at all."""
    from wsicodec.slide import find_tissue

    mask = find_tissue(slide).mask
    step = max(slide.shape) / max(mask.shape)  # pixels of level 0 per pixel of the mask
    factor = max(1, round(TISSUE_UM / (step * slide.mpp)))
    tissue = box_reduce(np.uint8(255) * mask[..., None], factor)[..., 0]
    rgb = coarse_level(slide, COARSE)
    facts: dict[str, Any] = {"shape": slide.shape, "mpp": slide.mpp, "cell": factor * step}
    with made_whole(folder) as made:
        np.save(made / "tissue.npy", tissue)
        for level in range(COARSE, LEVELS + 1):  # one more: the parent of the coarsest
            np.save(made / f"level_{level}.npy", rgb)
            rgb = box_reduce(rgb, 2)
        (made / "slide.json").write_text(json.dumps(facts), "utf-8")


def coarse_level(slide: "Slide", level: int) -> Pixels:
    """A coarse level (h, w, 3) from the slide's own small levels, in the filter that made them."""
    height, width = level_shape(slide.shape, level)
    rgb = slide.overview(max(height, width))
    if max(rgb.shape[:2]) < 0.95 * max(height, width):  # its levels are not powers of two
        rgb = slide.overview(2 * max(height, width))
    if rgb.shape[:2] == (height, width):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BOX))
