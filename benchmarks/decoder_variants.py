"""Ways to draw the same stores: as shipped, or with one thing changed."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoder_seams import FURTHER
from benchmarks.window_borders import moved
from wsicodec import api
from wsicodec.bench.fields import Mosaic
from wsicodec.bench.ours import Drawing, anchor_alone, reseeded, stored
from wsicodec.bench.output import Levels, Pixels
from wsicodec.codec.state import ByteCache, TileBoard, state
from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH, Region
from wsicodec.metrics.rate import bytes_on_disk
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.networks import load_embedder

Floats = NDArray[np.float32]
SHIPPED = "as shipped"
ENLARGED = "anchor enlarged"  # nothing is drawn
ZEROED = "no embeddings"
RAW = "embeddings not quantised"
EXCHANGED = "embeddings exchanged"
PARENT = "starts from the parent's latent"
UNLOCKED = "colours not locked"
SCHEDULES = {PARENT: {"start": "parent"}, UNLOCKED: {"colours": "own"}}  # see `draw.Recipe`
CHANGES = (SHIPPED, ENLARGED, ZEROED, RAW, EXCHANGED, PARENT, UNLOCKED)


@dataclass(frozen=True)
class Variant:
    """One way to draw the fields."""

    bundle: str  # name or folder
    preset: str
    steps: int = 0  # 0: the bundle's own
    seed: int = 0  # of the noise
    change: str = SHIPPED

    def __post_init__(self) -> None:
        if self.change not in CHANGES:
            raise ConfigError(f"expected a change of {', '.join(CHANGES)}, got {self.change!r}")

    @property
    def plain(self) -> bool:
        """Whether it is what a reader of a new store gets."""
        return self.change == SHIPPED and not self.steps and not self.seed


@dataclass(frozen=True)
class Drawn:
    """An open store of the fields, and what its networks are told."""

    group: Any
    mosaic: Mosaic
    told: Floats | None = None  # (gy, gx, d) instead of the stored grid
    shown: Levels | None = None  # instead of what is drawn
    bytes: int = 0  # of the store

    def level(self, level: int) -> list[Pixels]:
        """The fields' parts of a level."""
        if self.shown is not None:
            return self.shown(level)
        places = [f.region.scale_down(1 << level).slices() for f in self.mosaic.fields]
        return [np.asarray(self.group[str(level)][place]) for place in places]

    def moved(self, level: int, places: Sequence[Region]) -> list[Pixels]:
        """Places of a level drawn by windows that lie half a window further."""
        return moved(self.group, level, places, FURTHER)

    @cached_property
    def vectors(self) -> Floats:
        """The stored embeddings (n, d) of the fields' patches with tissue."""
        return self._patches(np.asarray(self.group["embeddings"][...]))

    @property
    def told_vectors(self) -> Floats:
        """What the networks are told of the same patches."""
        return self.vectors if self.told is None else self._patches(self.told)

    def _patches(self, grid: Floats) -> Floats:
        rows, columns = cells(self.mosaic).T
        return np.asarray(grid[rows, columns])


def cells(mosaic: Mosaic) -> NDArray[np.intp]:
    """Rows and columns (n, 2) in the grid of the fields' patches with tissue, field by field."""
    places = [list(f.region.scale_down(PATCH).cells()) for f in mosaic.fields]
    return np.array([cell for field in places for cell in field])[mosaic.tissue]


def files(mosaic: Mosaic) -> NDArray[np.str_]:
    """The file of each of those patches."""
    counts = [f.rgb.shape[0] // PATCH * (f.rgb.shape[1] // PATCH) for f in mosaic.fields]
    return np.repeat(np.array([f.file for f in mosaic.fields]), counts)[mosaic.tissue]


@contextmanager
def drawing(mosaic: Mosaic, variant: Variant, work: Path) -> Iterator[Drawn]:
    """The fields' store, opened so that it is drawn in a variant's way until the end.

    Stores are made once per bundle and preset below `work`; nothing is cached between variants.
    """
    bundle = load_bundle(variant.bundle)
    folder = work / bundle.fingerprint[:12]
    folder.mkdir(exist_ok=True)
    path, _ = stored(mosaic, Drawing(variant.preset), bundle, folder)
    if variant.seed:
        path = reseeded(path, variant.seed, folder)
    backend = "auto"
    if variant.change in SCHEDULES:
        path = otherwise(path, bundle, SCHEDULES[variant.change], folder)
    if variant.change == PARENT:
        backend = "torch"  # ONNX graphs cannot encode
    shown = None
    if variant.change == ENLARGED:
        shown = anchor_alone(mosaic, variant.preset, bundle, folder).levels
    forget_pixels()
    group: Any = api.open(path, steps=variant.steps, backend=backend)
    told = changed_grid(np.asarray(group["embeddings"][...]), mosaic, variant.change, bundle)
    if told is not None:
        tell(group, told)
    yield Drawn(group, mosaic, told, shown, bytes_on_disk(path))
    forget_pixels()


def forget_pixels() -> None:
    """Drop all that this process keeps of stores: variants share a slide's digest."""
    here = state()
    here.tiles = TileBoard(here.tiles.cache.limit)
    here.kept = TileBoard(here.kept.cache.limit)
    here.chunks, here.records = ByteCache(here.chunks.limit), ByteCache(here.records.limit)


def tell(group: Any, grid: Floats) -> None:
    """Let the process's readers find another grid (gy, gx, d) where the store's would be kept."""
    slide = group.attrs["wsicodec"]["slide"]
    height, width = group["embeddings"].chunks[:2]
    for i in range(-(-grid.shape[0] // height)):
        for j in range(-(-grid.shape[1] // width)):
            part = np.ascontiguousarray(
                grid[i * height : (i + 1) * height, j * width : (j + 1) * width]
            )
            state().chunks.put((slide, f"embeddings/c/{i}/{j}/0"), part, part.nbytes)


def changed_grid(grid: Floats, mosaic: Mosaic, change: str, bundle: Bundle) -> Floats | None:
    """What the networks are told instead of the stored grid; None where that stays."""
    rows, columns = cells(mosaic).T
    if change == ZEROED:
        return np.zeros_like(grid)
    if change == EXCHANGED:
        other = grid.copy()
        partner = partners(files(mosaic))
        other[rows, columns] = grid[rows[partner], columns[partner]]
        return other
    if change == RAW:
        raw = grid.copy()
        patches = mosaic.rgb.reshape(grid.shape[0], PATCH, grid.shape[1], PATCH, 3)
        raw[rows, columns] = load_embedder(bundle)(
            np.ascontiguousarray(patches.swapaxes(1, 2)[rows, columns])
        )
        return raw
    return None


def partners(owners: NDArray[np.str_]) -> NDArray[np.intp]:
    """For every patch another one of the same file, half the file's patches away."""
    found = np.arange(len(owners))
    for name in dict.fromkeys(owners.tolist()):
        own = np.flatnonzero(owners == name)
        found[own] = np.roll(own, len(own) // 2)
    return found


def otherwise(store: Path, bundle: Bundle, schedule: Mapping[str, str], folder: Path) -> Path:
    """A copy of a store that a copy of its bundle draws by another schedule."""
    place = Path(tempfile.mkdtemp(dir=folder))
    shutil.copytree(bundle.path, place / "bundle")
    config = json.loads(json.dumps(bundle.config))
    config["schedule"] |= schedule
    (place / "bundle" / "bundle.json").write_text(json.dumps(config), "utf-8")
    new = load_bundle(place / "bundle").fingerprint
    shutil.copytree(store, place / "store")
    for file in (place / "store").rglob("zarr.json"):
        file.write_bytes(file.read_bytes().replace(bundle.fingerprint.encode(), new.encode()))
    return place / "store"
