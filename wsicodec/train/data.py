"""Real tissue as a stream of samples: sample i is a pure function of (seed, i).

An index (`wsicodec.train.index`) names slides and images. What is small is decoded once into a
pyramid of arrays on disk, memory-mapped afterwards, so processes share pages: a Picture. What is
large, and much, is read where samples lie: a StreamedSlide. Stages draw from either as a Place.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS, NATIVE_MPP, Region, reduction_for
from wsicodec.resample import box_reduce
from wsicodec.train.index import Entry, read_index
from wsicodec.train.keeping import made_whole
from wsicodec.train.slides import StreamedSlide, stream_slides

Pixels = NDArray[np.uint8]
MAP_STEP = 32  # finest-level pixels per cell of the tissue map
TRIES = 12  # at a window with tissue
OVERVIEW_MPP = 16.0  # µm/px of an overview that states none; they lie between 10 and 25


@dataclass(frozen=True, slots=True)
class DataConfig:
    """Which tissue is drawn, and how often."""

    root: str = "../shared/data"  # folder that names in the index are relative to
    split: str = "train"
    cache: str = "cache/pyramids"  # decoded pyramids, or the coarse levels of streamed slides
    seed: int = 0
    source_cap: float = 0.22  # largest share of samples that one source may have
    magnifications: tuple[float, ...] = (0.5, 0.2, 0.12, 0.08, 0.04, 0.03, 0.02, 0.01)
    tissue_share: float = 0.5  # a window with less tissue is drawn again, a few times
    index: str = (
        "MANIFEST.csv"  # CSV in `root`, see `wsicodec.train.index`; empty: all slides below
    )
    stream: bool = False  # slides are read where samples lie; else they are decoded whole, once
    open_slides: int = 16  # at a time, of those that are streamed


@dataclass(frozen=True)
class Picture:
    """One image as a pyramid; level 0 is the finest stored."""

    name: str
    source: str
    kind: str
    mpp: float
    levels: list[Pixels] = field(repr=False)
    tissue: NDArray[np.float32] = field(repr=False)  # fraction per MAP_STEP x MAP_STEP pixels

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of every level."""
        return [(a.shape[0], a.shape[1]) for a in self.levels]

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""
        return share_of(self.tissue, level, y, x, side)

    def crop(self, level: int, y: int, x: int, side: int) -> Pixels:
        """A square of pixels (side, side, 3) of `level`."""
        return np.ascontiguousarray(self.levels[level][y : y + side, x : x + side])

    @property
    def mag_index(self) -> int:
        """Magnification index of the finest level."""
        return min(LEVELS - 1, max(0, round(float(np.log2(self.mpp / NATIVE_MPP)))))


class Place(Protocol):
    """What windows are drawn from: a Picture, or something made from one."""

    @property
    def source(self) -> str:
        """Repository or archive it comes from."""

    @property
    def mag_index(self) -> int:
        """Magnification index of level 0."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width in pixels of every level."""

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""

    def crop(self, level: int, y: int, x: int, side: int) -> Pixels:
        """A square of pixels (side, side, 3) of `level`."""


@runtime_checkable
class Sparse(Protocol):
    """A place that is glass for the most part, and says itself where a window may lie."""

    def corners(
        self, rng: np.random.Generator, level: int, side: int, count: int
    ) -> list[tuple[int, int]]:
        """Corners (y, x) of windows of `level`, over tissue."""


def share_of(tissue: NDArray[np.float32], level: int, y: int, x: int, side: int) -> float:
    """Mean of a map with MAP_STEP level-0 pixels a cell over a square in pixels of `level`."""
    scale = (1 << level) / MAP_STEP
    y0, x0 = int(y * scale), int(x * scale)
    y1, x1 = int(np.ceil((y + side) * scale)), int(np.ceil((x + side) * scale))
    part = tissue[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]
    return float(part.mean()) if part.size else 0.0


def tissue_map(rgb: Pixels) -> NDArray[np.float32]:
    """Share of stained pixels per cell: coloured and darker than glass."""
    h, w = (n // MAP_STEP * MAP_STEP for n in rgb.shape[:2])
    step = MAP_STEP // 4
    small = rgb[: max(h, 1) : 4, : max(w, 1) : 4].astype(np.int16)
    stained = (small.max(-1) - small.min(-1) > 18) & (small.min(-1) < 225)
    if h == 0 or w == 0:
        return np.full((1, 1), stained.mean(), np.float32)
    cells = stained.reshape(h // MAP_STEP, step, w // MAP_STEP, step)
    return np.asarray(cells.mean((1, 3)), np.float32)


def _decode(path: Path) -> Pixels:
    from wsicodec.slide import open_reader

    reader = open_reader(path)
    try:
        return reader.read(Region(0, 0, *reader.shape))
    finally:
        reader.close()


def _build(path: Path, folder: Path, reduction: int) -> None:
    level = _decode(path)
    while reduction > 1:
        level, reduction = box_reduce(level, 2), reduction // 2
    with made_whole(folder) as made:
        np.save(made / "tissue.npy", tissue_map(level))
        for k in range(LEVELS):
            np.save(made / f"{k}.npy", level)
            if min(level.shape[:2]) < 64:
                break
            level = box_reduce(level, 2)


def load_pictures(config: DataConfig) -> list[Picture]:
    """Every image of the split as a memory-mapped pyramid, decoding what is not cached yet."""
    if config.stream:
        raise ConfigError(
            "expected pictures that fit on disk, got `stream` in `data`; this stage does not stream"
        )
    cache, pictures = Path(config.cache), []
    for entry in read_index(Path(config.root), config.index, config.split):
        if entry.path.suffix == ".dcm":
            continue
        folder = cache / entry.digest
        mpp = entry.mpp or _stated_mpp(entry)
        reduction = reduction_for(mpp)
        if not folder.exists():
            _build(entry.path, folder, reduction)
        count = sum(1 for k in range(LEVELS) if (folder / f"{k}.npy").exists())
        levels = [np.load(folder / f"{k}.npy", mmap_mode="r") for k in range(count)]
        tissue = np.load(folder / "tissue.npy")
        facts = entry.name, entry.source, entry.kind, mpp * reduction
        pictures.append(Picture(*facts, levels, tissue))
    return pictures


def _stated_mpp(entry: Entry) -> float:
    """What the file says; raises MppError where it says nothing and is no overview."""
    if entry.kind == "overview":
        return OVERVIEW_MPP
    from wsicodec.slide import open_slide

    with open_slide(entry.path) as slide:
        return slide.mpp / slide.reduction


def load_slides(config: DataConfig) -> list[StreamedSlide]:
    """Every slide of the split, to be read where samples lie."""
    entries = read_index(Path(config.root), config.index, config.split)
    rank = int(os.environ.get("RANK", "0"))  # torchrun's
    return stream_slides(entries, Path(config.cache), config.open_slides, rank)


def load_places(config: DataConfig) -> Sequence[Place]:
    """What windows are drawn from: slides where they are streamed, else pictures."""
    return load_slides(config) if config.stream else load_pictures(config)


@dataclass(frozen=True, slots=True)
class Window:
    """Where a sample lies: a square in pixels of one level of one picture."""

    picture: int
    level: int
    y: int
    x: int
    side: int


def generator(seed: int, index: int) -> np.random.Generator:
    """The random source of sample `index`: counter-based, so any sample can be drawn alone."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, index]))


class Sampler:
    """Draws windows: magnification first, then source, then image, then place."""

    def __init__(self, places: Sequence[Place], config: DataConfig, side: int) -> None:
        self.places, self.config = places, config
        self.choices = [self._choices(mag, side) for mag in range(LEVELS)]
        weights = np.array(config.magnifications, float)
        weights[[i for i, choice in enumerate(self.choices) if not choice]] = 0
        self.magnifications = weights / weights.sum()

    def _choices(self, mag: int, side: int) -> list[tuple[float, list[tuple[float, int, int]]]]:
        by_source: dict[str, list[tuple[float, int, int]]] = defaultdict(list)
        for number, place in enumerate(self.places):
            level = mag - place.mag_index
            if 0 <= level < len(place.shapes) and min(place.shapes[level]) >= side:
                area = float(np.prod(place.shapes[level]))
                by_source[place.source].append((area**0.5, number, level))
        shares = np.array([sum(a * a for a, _, _ in items) ** 0.5 for items in by_source.values()])
        return list(zip(capped(shares, self.config.source_cap), by_source.values(), strict=True))

    def draw(self, rng: np.random.Generator, side: int, align: int = 1) -> Window:
        """A window of `side` pixels whose corner is a multiple of `align`."""
        mag = int(rng.choice(LEVELS, p=self.magnifications))
        return self.draw_at(rng, mag, side, align)

    def draw_at(self, rng: np.random.Generator, mag: int, side: int, align: int = 1) -> Window:
        """A window of one magnification index; prefers windows with tissue."""
        sources = self.choices[mag]
        items = sources[rng.choice(len(sources), p=[s for s, _ in sources])][1]
        weights = np.array([w for w, _, _ in items])
        _, number, level = items[rng.choice(len(items), p=weights / weights.sum())]
        place = self.places[number]
        h, w = place.shapes[level]
        if isinstance(place, Sparse):
            corners = place.corners(rng, level, side, TRIES)
        else:
            free = h - side + 1, w - side + 1
            corners = [(int(fy * free[0]), int(fx * free[1])) for fy, fx in rng.random((TRIES, 2))]
        best, most = (0, 0), -1.0
        for y, x in ((y // align * align, x // align * align) for y, x in corners):
            tissue = place.tissue_in(level, y, x, side)
            if tissue > most:
                best, most = (y, x), tissue
            if tissue >= self.config.tissue_share:
                break
        return Window(number, level, *best, side)

    def read(self, window: Window) -> Pixels:
        """The window's pixels (side, side, 3)."""
        return self.places[window.picture].crop(window.level, window.y, window.x, window.side)


def capped(shares: NDArray[np.float64], cap: float) -> list[float]:
    """Shares scaled to sum 1 with none above `cap`, as far as their number allows."""
    if not len(shares):
        return []
    shares = shares / shares.sum()
    cap = max(cap, 1 / len(shares))
    for _ in range(len(shares)):
        over = shares > cap + 1e-12
        if not over.any():
            break
        fixed = shares >= cap - 1e-12
        rest = shares[~fixed].sum()
        shares = np.where(fixed, cap, shares * (1 - cap * fixed.sum()) / rest if rest else cap)
    return [float(s) for s in shares / shares.sum()]
