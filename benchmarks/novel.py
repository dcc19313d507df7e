"""Are sampled slides new? Nearest training tiles in features that no model of ours was trained on.

    python -m benchmarks.novel INDEX.csv --out FOLDER [--seeds 0 1 2] [--size 8192x8192]

INDEX.csv is as for `benchmarks.rate_fid`, with rows of the splits train and val. A slide is
sampled for every seed, and opened again if it stands there. For tiles of 256 px of level 0 with
tissue, the distance to the nearest training tile is taken, in held-out features; the same for
tiles of val, which come from other slides than train's. A model that repeats what it was trained
on shows as novel tiles nearer to train than any real slide's. Rows:

    nearest_held_out    median, least and greatest distance to the nearest training tile
    nearer_than_real    share of novel tiles below the least of val's distances
    seam                mean step across tile borders over the mean step elsewhere, per level; of
                        `real`, what fields of val have where borders would lie, for levels whose
                        fields are larger than a tile
    seam_over_own   mean step across tile borders over the mean step that one window draws there,
                which leaves content out, see `window_borders`
    differing           share of a store's bytes that a second run of a seed differs in

The histogram goes to results/novel.png, and to FOLDER a picture per slide: the same place at
0.3x to 20x. No picture of tissue is written anywhere else.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import wsicodec
from benchmarks.record import RESULTS, Row, write
from benchmarks.window_borders import over_own
from wsicodec.bench.fields import cut, lay_out, sources
from wsicodec.cli_sample import size_of
from wsicodec.config import BLANK, StoreInfo
from wsicodec.geometry import PATCH, Region, grid_shape
from wsicodec.metrics.distances import squared_distances
from wsicodec.metrics.features import Extractor, held_out
from wsicodec.metrics.pictures import Pixels, cut_patches, seam_score
from wsicodec.resample import box_reduce

NAME = "novel"
FIELDS = 6  # of a file, up to 16 tiles each
SHOWN = range(6, -1, -1)  # levels of a picture: 0.3x to 20x
VIEW = 256  # pixels of each
SEAM_VIEW = 1024  # pixels that seams are looked for in
BESIDE = 4  # tiles to either side of a place that windows are drawn of
Vectors = NDArray[np.float64]


@dataclass(frozen=True)
class Tiles:
    """Tiles with tissue and the file of each."""

    rgb: Pixels  # (n, PATCH, PATCH, 3)
    files: list[str]


def real_tiles(index: Path, split: str) -> Tiles:
    """Tiles of the fields of every file of a split that is near 20x."""
    rgb, files = [], []
    for file, mpp in sources(index, split, None):
        found = cut(file, mpp, FIELDS)
        if not found:
            continue
        mosaic = lay_out(file.name, found)
        tiles = np.concatenate([cut_patches(f.rgb, PATCH) for f in mosaic.fields])[mosaic.tissue]
        rgb.append(tiles)
        files += [file.name] * len(tiles)
    return Tiles(np.concatenate(rgb), files)


def sampled(folder: Path, seed: int, size: tuple[int, int], bundle: str | None) -> Path:
    """The store of a seed, drawn if it is not there."""
    path = folder / f"novel_{seed}.zarr"
    if not path.exists():
        wsicodec.sample(path, size=size, seed=seed, bundle=bundle)
    return path


def novel_tiles(group: Any, count: int) -> Pixels:
    """Tiles of level 0, evenly among those with tissue all around."""
    tissue = np.asarray(group["tissue"][...]) != BLANK
    inner = tissue.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(tissue, step, axis)
    inner[[0, -1], :] = inner[:, [0, -1]] = False
    cells = np.argwhere(inner if inner.any() else tissue)
    kept = np.linspace(0, len(cells) - 1, min(count, len(cells))).round().astype(int)
    tiles = [
        group["0"][y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH] for y, x in cells[kept]
    ]
    return np.stack([t for t in tiles if t.shape == (PATCH, PATCH, 3)])


def nearest(vectors: Vectors, among: Vectors) -> Vectors:
    """Distance of each row (n, d) to the nearest of `among` (m, d)."""
    return np.asarray(np.sqrt(squared_distances(vectors, among).min(1)))


def densest(group: Any) -> tuple[int, int]:
    """Level-0 pixels of the middle of the patch with tissue that is darkest at 0.6x."""
    cells = np.argwhere(np.asarray(group["tissue"][...]) != BLANK)
    if not len(cells):
        return 0, 0
    picture, side = np.asarray(group["5"][...]), PATCH >> 5
    light = [picture[y * side :, x * side :][:side, :side].mean() for y, x in cells]
    y, x = cells[int(np.argmin(light))]
    return int(y) * PATCH + PATCH // 2, int(x) * PATCH + PATCH // 2


def view(group: Any, level: int, place: tuple[int, int], side: int) -> Pixels:
    """Up to `side` pixels a side of a level around a place of level 0."""
    array = group[str(level)]
    corner = [
        max(0, min((c >> level) - side // 2, n - side))
        for c, n in zip(place, array.shape[:2], strict=True)
    ]
    return np.asarray(array[corner[0] : corner[0] + side, corner[1] : corner[1] + side])


def sheet(group: Any) -> Pixels:
    """The same place at every shown level, side by side on white."""
    place = densest(group)
    panels = []
    for level in SHOWN:
        rgb = view(group, level, place, VIEW)
        panel = np.full((VIEW, VIEW, 3), 255, np.uint8)
        panel[: rgb.shape[0], : rgb.shape[1]] = rgb
        panels.append(panel)
    return np.concatenate(panels, axis=1)


def seams(group: Any, subject: str) -> list[Row]:
    """A row per level that is larger than two tiles."""
    rows = []
    for level in range(5):
        rgb = view(group, level, densest(group), SEAM_VIEW)
        if min(rgb.shape[:2]) >= 2 * PATCH:
            # The view begins anywhere: cut it to whole tiles of the level.
            y, x = (_to_tile(group, level, axis) for axis in (0, 1))
            score = seam_score(rgb[y:, x:], PATCH)
            rows.append(Row(NAME, subject, f"level {level}", "seam", score, ""))
    return rows


def seams_over_own(group: Any, subject: str) -> list[Row]:
    """A row per drawn level, from the tiles around the same place."""
    rows = []
    for level in range(min(StoreInfo.from_json(group.attrs["wsicodec"]).pictures)):
        y, x = (c >> level + PATCH.bit_length() - 1 for c in densest(group))
        near = Region(y - BESIDE, x - BESIDE, y + BESIDE, x + BESIDE)
        score = over_own(group, level, near.clip(grid_shape(group[str(level)].shape[:2])))
        rows.append(Row(NAME, subject, f"level {level}", "seam_over_own", score, ""))
    return rows


def real_seams(index: Path, split: str) -> list[Row]:
    """The same of real fields, median and extremes: scanners' own lattices show as seams, too."""
    found: dict[int, list[float]] = {}
    for file, mpp in sources(index, split, None):
        for field in cut(file, mpp, FIELDS):
            rgb, level = field.rgb, 0
            while min(rgb.shape[:2]) >= 2 * PATCH:
                found.setdefault(level, []).append(seam_score(rgb, PATCH))
                rgb, level = box_reduce(rgb, 2), level + 1
    return [
        Row(
            NAME, "real", f"{split} level {level}", "seam", float(np.median(scores)), "",
            min(scores), max(scores), len(scores),
        )
        for level, scores in found.items()
    ]  # fmt: skip


def _to_tile(group: Any, level: int, axis: int) -> int:
    length = int(group[str(level)].shape[axis])
    corner = max(0, min((densest(group)[axis] >> level) - SEAM_VIEW // 2, length - SEAM_VIEW))
    return -corner % PATCH


def repeats(folder: Path, seed: int, size: tuple[int, int], bundle: str | None) -> float:
    """Share of bytes of a store that differ when its seed is sampled again."""
    first, again = folder / f"novel_{seed}.zarr", folder / f"again_{seed}.zarr"
    wsicodec.sample(again, size=size, seed=seed, bundle=bundle, overwrite=True)
    total = unlike = 0
    for path in sorted(p for p in first.rglob("*") if p.is_file()):
        other = again / path.relative_to(first)
        total += path.stat().st_size
        same = other.exists() and _digest(other) == _digest(path)
        unlike += 0 if same else path.stat().st_size
    return unlike / total


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spread(subject: str, setting: str, found: Vectors, note: str = "") -> Row:
    low, high = float(found.min()), float(found.max())
    value = float(np.median(found))
    return Row(NAME, subject, setting, "nearest_held_out", value, "", low, high, len(found), note)


def histogram(path: Path, novel: Vectors, real: Vectors) -> Path:
    """Both sets of distances, and the least real one as a line."""
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
    edges = np.histogram_bin_edges(np.concatenate([novel, real]), 40).tolist()
    axis.hist(real, edges, density=True, alpha=0.6, label=f"{len(real)} real tiles of val")
    axis.hist(novel, edges, density=True, alpha=0.6, label=f"{len(novel)} tiles of novel slides")
    axis.axvline(float(real.min()), color="black", linewidth=1, label="nearest real slides")
    axis.set_xlabel("distance to the nearest training tile, held-out features")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def measure(
    index: Path,
    stores: dict[int, Path],
    judge: Extractor,
    count: int,
    out: Path,
    picture: Path,
) -> list[Row]:
    """Rows and pictures of slides that were sampled."""
    train, val = real_tiles(index, "train"), real_tiles(index, "val")
    known = judge(train.rgb)
    real = nearest(judge(val.rgb), known)
    rows = [spread("real", "val to train", real, f"{len(set(val.files))} files")]
    rows += real_seams(index, "val")
    found = []
    for seed, path in stores.items():
        group = wsicodec.open(path)
        found.append(nearest(judge(novel_tiles(group, count)), known))
        rows.append(spread(f"seed {seed}", "novel to train", found[-1]))
        rows += seams(group, f"seed {seed}") + seams_over_own(group, f"seed {seed}")
        Image.fromarray(sheet(group)).save(out / f"novel_{seed}.png")
    novel = np.concatenate(found)
    share = float((novel < real.min()).mean())
    rows.append(Row(NAME, "all seeds", "novel to train", "nearer_than_real", share, ""))
    histogram(picture, novel, real)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(f"benchmarks.{NAME}", description=__doc__.split("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=size_of, default=(8192, 8192))
    parser.add_argument("--tiles", type=int, default=64, help="of each slide")
    parser.add_argument("--bundle")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    stores = {s: sampled(given.out, s, given.size, given.bundle) for s in given.seeds}
    picture = RESULTS / "novel.png"
    rows = measure(given.index, stores, held_out(), given.tiles, given.out, picture)
    unlike = repeats(given.out, given.seeds[0], given.size, given.bundle)
    rows.append(Row(NAME, f"seed {given.seeds[0]}", "two runs", "differing", unlike, ""))
    print(write(NAME, rows))


if __name__ == "__main__":
    main()
