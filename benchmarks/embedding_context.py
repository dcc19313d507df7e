"""Whether what the neighbours tell pays: bytes per embedding with and without them, on val.

    python -m benchmarks.embedding_context --run runs/embedder

The run's folder holds the vectors of train and val as `wsicodec.train rates` leaves them there.
Tables are fitted to grids, where a cell's left and upper neighbours predict it and set its spread;
and to the same vectors without a place, coded so that none has a neighbour.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from benchmarks.record import Row, write
from wsicodec.coding.fit import rate_distortion
from wsicodec.train.data import DataConfig, load_pictures
from wsicodec.train.embedder_eval import find_patches
from wsicodec.train.embedding_rate import EmbeddedSet

STEPS = (1.5, 0.8, 0.4322)  # units of the embedding; the last is the shipped tables'
MOST_PER_SOURCE = 600  # vectors that tables are fitted to


def stored(data: DataConfig, vectors: Path) -> EmbeddedSet:
    """A split's patches with the vectors that were kept of them."""
    return EmbeddedSet(find_patches(load_pictures(data), 10**9), np.load(vectors))


def compare(fit: EmbeddedSet, test: EmbeddedSet, steps: tuple[float, ...]) -> list[Row]:
    """Two rows per step: estimated payload bytes per held-out vector."""
    grids, held = fit.capped_grids(MOST_PER_SOURCE), [grid for grid, _ in test.grids()]
    loose, held_loose = (np.concatenate([g[g.any(2)] for g in part]) for part in (grids, held))
    found = {
        "with neighbours": rate_distortion(grids, held, steps),
        "without neighbours": rate_distortion(loose, held_loose, steps),
    }
    note = f"{len(loose)} vectors fitted, {len(held_loose)} of val coded; payload, no headers"
    return [
        Row(
            "embedding_context",
            "val",
            f"step {point.step:g}, {name}",
            "estimated bytes per vector",
            round(point.bytes_per_vector, 2),
            "B",
            note=note,
        )
        for name, points in found.items()
        for point in points
    ]


def main() -> None:
    """Parse, measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("runs/embedder"))
    parser.add_argument("--root", default=DataConfig().root)
    parser.add_argument("--cache", default=DataConfig().cache)
    given = parser.parse_args()
    train = DataConfig(root=given.root, cache=given.cache)
    val = dataclasses.replace(train, split="val")
    fit = stored(train, given.run / "train_vectors.npy")
    test = stored(val, given.run / "val_vectors.npy")
    write("embedding_context", compare(fit, test, STEPS))


if __name__ == "__main__":
    main()
