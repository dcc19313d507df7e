"""Does the held-out encoder rank known damage by its strength?

    python -m benchmarks.held_out INPUT... [--mpp 0.5]

INPUTs are as for `benchmarks.rate_fid`. For every kind of damage, a row a strength: the Fréchet
distance to the untouched patches (128 px of level 0), its interval over files, and the distance
between the untouched patches of one half of the files and of the other, to compare with. A last
row per kind says the rank correlation of strength and distance. Rows go to results/held_out.csv.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Row, write
from wsicodec.bench.fields import cut, sources
from wsicodec.metrics import degrade
from wsicodec.metrics.bootstrap import Interval, bootstrap
from wsicodec.metrics.degrade import Degradation
from wsicodec.metrics.distances import frechet_distance
from wsicodec.metrics.features import Extractor, held_out
from wsicodec.metrics.pictures import Pixels, cut_patches

NAME = "held_out"
SIDE = 128  # pixels of a patch
MOST = 16  # patches of a file
UNTRAINED = (  # damage that training did not show it
    Degradation("colour", (0.05, 0.1, 0.2, 0.4), lambda rgb, s, _: degrade.shift_colour(rgb, s)),
    Degradation(
        "seams", (2, 4, 8, 16), lambda rgb, s, rng: degrade.add_seams(rgb, s, rng, SIDE // 2)
    ),
)


def patches(inputs: Sequence[Path], split: str, mpp: float | None) -> tuple[Pixels, list[str]]:
    """Patches of all files, evenly thinned, and the file of each."""
    found, files = [], []
    for path in inputs:
        for file, scale in sources(path, split, mpp):
            whole = [cut_patches(field.rgb, SIDE) for field in cut(file, scale, 4)]
            if whole:
                joined = np.concatenate(whole)
                kept = np.linspace(0, len(joined) - 1, min(MOST, len(joined))).round().astype(int)
                found.append(joined[kept])
                files += [file.name] * len(kept)
    return np.concatenate(found), files


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's coefficient of values with their order."""
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def rows_of(kind: Degradation, tiles: Pixels, files: Sequence[str], judge: Extractor) -> list[Row]:
    """A row per strength and the rank correlation."""
    clean, rows, values = judge(tiles), [], []
    note = "" if kind in degrade.KINDS else "not among the damage it was trained on"
    for strength in kind.strengths:
        rng = np.random.default_rng(0)
        damaged = judge(np.stack([kind.apply(tile, strength, rng) for tile in tiles]))

        def distance(chosen: NDArray[np.intp], damaged: NDArray[np.float64] = damaged) -> float:
            return frechet_distance(clean[chosen], damaged[chosen])

        found: Interval = bootstrap(distance, files, count=60)
        values.append(found.value)
        rows.append(
            Row(NAME, kind.name, f"{strength:.3g}", "frechet_distance", found.value, "1",
                found.low, found.high, len(tiles), note)
        )  # fmt: skip
        print(f"{kind.name} {strength:.3g}: {found.value:.3f}", flush=True)
    correlation = rank_correlation(values)
    return [*rows, Row(NAME, kind.name, "all strengths", "rank_correlation", correlation, "1")]


def main() -> None:
    parser = argparse.ArgumentParser("benchmarks.held_out")
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT")
    parser.add_argument("--split", default="val")
    parser.add_argument("--mpp", type=float)
    given = parser.parse_args()
    tiles, files = patches(given.inputs, given.split, given.mpp)
    judge = held_out()
    names = sorted(set(files))
    half = np.array([names.index(file) % 2 == 0 for file in files])
    clean = judge(tiles)
    apart = frechet_distance(clean[half], clean[~half])
    rows = [Row(NAME, "untouched", "halves of files", "frechet_distance", apart, "1")]
    for kind in (*degrade.KINDS, *UNTRAINED):
        rows += rows_of(kind, tiles, files, judge)
    print(write(NAME, rows))


if __name__ == "__main__":
    main()
