"""What stored embeddings are worth to a classifier: tissue classes against bits per vector.

    python -m benchmarks.mil INDEX.csv [--bundle NAME]

A linear probe (ridge, its penalty chosen by leaving training pictures out) is fitted to float32
vectors of the index's `train` rows whose file names say a class, and asked about vectors of its
`val` rows: as the embedder gave them, and as they come back from coding at several quantiser steps.
Intervals resample the val pictures. Rows go to results/mil.csv.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import Row, write
from wsicodec.bench.fields import Field, cut, lay_out, sources
from wsicodec.bench.quantizers import PART, scaled
from wsicodec.coding import EmbeddingTables, decode_grid, encode_grid
from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.metrics.bootstrap import bootstrap
from wsicodec.metrics.pictures import cut_patches
from wsicodec.models.bundle import load_bundle
from wsicodec.models.networks import Embedder, load_embedder
from wsicodec.train.embedder_eval import tissue_class

NAME = "mil"
FACTORS = (0.5, 1, 2, 4, 8, 16, 32)  # of the bundle's quantiser step
PENALTIES = (1e-3, 1e-2, 1e-1, 1, 10)  # of the ridge, per patch
FOLDS = 5
CHUNK = 32  # cells a side of a store's chunk of embeddings

Vectors = NDArray[np.float64]
Labels = NDArray[np.str_]


@dataclass(frozen=True)
class Split:
    """Vectors (n, d) of one split's tissue patches, on one grid as a store has them."""

    grid: NDArray[np.float32]  # (rows, columns, d)
    valid: NDArray[np.bool_]  # (rows, columns)
    labels: Labels  # (n,)
    files: Labels  # (n,)

    def coded(self, tables: EmbeddingTables | None) -> tuple[float, Vectors]:
        """Bits per vector, every byte of the payloads, and the vectors that come back."""
        if tables is None:
            return 32.0 * self.grid.shape[2], self.grid[self.valid].astype(np.float64)
        size, back = 0, np.zeros_like(self.grid)
        for y in range(0, self.grid.shape[0], CHUNK):
            for x in range(0, self.grid.shape[1], CHUNK):
                part = np.s_[y : y + CHUNK, x : x + CHUNK]
                payload = encode_grid(self.grid[part], self.valid[part], tables)
                size += len(payload)
                back[part] = decode_grid(payload, tables, self.valid[part].shape)[0]
        return 8 * size / self.valid.sum(), back[self.valid].astype(np.float64)


def read_split(index: Path, split: str, embed: Embedder) -> Split:
    """Embed the labelled files of a split, laid out as one slide."""
    fields: list[Field] = []
    for file, mpp in sources(index, split, None):
        if tissue_class(file.name):
            fields += cut(file, mpp, 4)
    mosaic = lay_out(split, fields)
    patches = np.concatenate([cut_patches(f.rgb, PATCH) for f in mosaic.fields])
    counts = [len(cut_patches(f.rgb, PATCH)) for f in mosaic.fields]
    vectors = embed(patches)
    shape = mosaic.rgb.shape[0] // PATCH, mosaic.rgb.shape[1] // PATCH
    grid = np.zeros((*shape, vectors.shape[1]), np.float32)
    files = np.full(shape, "", dtype="U200")
    first = 0
    for field, count in zip(mosaic.fields, counts, strict=True):
        place = field.region.scale_down(PATCH).slices()
        rows, columns = grid[place].shape[:2]
        part = slice(first, first + count)
        kept = mosaic.tissue[part].reshape(rows, columns)
        grid[place] = np.where(kept[..., None], vectors[part].reshape(rows, columns, -1), 0)
        files[place] = np.where(kept, field.file, "")
        first += count
    valid = files != ""
    labels = np.array([tissue_class(name) for name in files[valid]])
    return Split(grid, valid, labels, files[valid])


def ridge(x: Vectors, labels: Labels, penalty: float) -> Callable[[Vectors], Labels]:
    """One against all by least squares with weight decay, classes weighed alike."""
    classes = np.array(sorted(set(labels.tolist())))
    target = (labels[:, None] == classes) * 2.0 - 1
    weight = np.zeros(len(labels))
    for name in classes:
        weight[labels == name] = 1 / (labels == name).sum()
    centre = weight @ x / weight.sum()
    y0 = weight @ target / weight.sum()
    scaled_x = (x - centre) * weight[:, None]
    gram = scaled_x.T @ (x - centre) + penalty * np.eye(x.shape[1]) * len(classes)
    beta = np.linalg.solve(gram, scaled_x.T @ (target - y0))
    return lambda z: classes[((z - centre) @ beta + y0).argmax(1)]


def balanced(said: Labels, labels: Labels) -> float:
    """Mean over classes of the share that was named rightly."""
    return float(np.mean([(said[labels == c] == c).mean() for c in sorted(set(labels.tolist()))]))


def choose_penalty(x: Vectors, labels: Labels, files: Labels) -> float:
    """The penalty that does best on training pictures left out."""
    order = {name: i % FOLDS for i, name in enumerate(sorted(set(files.tolist())))}
    fold = np.array([order[name] for name in files])

    def score(penalty: float) -> float:
        said = np.empty_like(labels)
        for i in range(FOLDS):
            held = fold == i
            said[held] = ridge(x[~held], labels[~held], penalty)(x[held])
        return balanced(said, labels)

    return max(PENALTIES, key=score)


def rows_of(fit: Split, test: Split, tables: EmbeddingTables) -> list[Row]:
    """Accuracy and rate of float32 vectors and of decoded ones."""
    shared = set(fit.labels.tolist()) & set(test.labels.tolist())
    if len(shared) < 2:
        raise ConfigError(f"expected two classes in both splits, got {sorted(shared)}")
    x = fit.coded(None)[1]
    mean, scale = x.mean(0), x.std(0).clip(1e-6)
    known = np.isin(fit.labels, list(shared))
    x, labels = ((x - mean) / scale)[known], fit.labels[known]
    classify = ridge(x, labels, choose_penalty(x, labels, fit.files[known]))
    asked = np.isin(test.labels, list(shared))
    truth, files = test.labels[asked], test.files[asked]
    note = f"{len(shared)} classes; fitted to {len(x)} float32 vectors of the train split"
    rows: list[Row] = []
    for factor in (None, *FACTORS):
        bits, vectors = test.coded(None if factor is None else scaled(tables, factor))
        said = classify(((vectors - mean) / scale)[asked])

        def right(chosen: NDArray[np.intp], said: Labels = said) -> float:
            return balanced(said[chosen], truth[chosen])

        found = bootstrap(right, files.tolist())
        setting = "float32" if factor is None else f"step x{factor:g}"
        subject = "osteosarcoma and breast classes"
        rows.append(
            Row(NAME, subject, setting, "balanced_accuracy", found.value, "1", found.low,
                found.high, len(truth), note)
        )  # fmt: skip
        rows.append(Row(NAME, subject, setting, "rate", bits, "bit/vector"))
        print(
            f"{setting}: {bits:.0f} bits, {found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.mil")
    parser.add_argument("index", type=Path, metavar="INDEX")
    parser.add_argument("--bundle")
    given = parser.parse_args(arguments)
    bundle = load_bundle(given.bundle)
    embed = load_embedder(bundle)
    splits = [read_split(given.index, name, embed) for name in ("train", "val")]
    tables = EmbeddingTables.from_tensors(bundle.tensors(PART))
    print(write(NAME, rows_of(splits[0], splits[1], tables)))


if __name__ == "__main__":
    main()
