"""What embeddings cost and what is left of them: bytes per vector against cosine and retrieval."""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, decode_grid, encode_grid, fit_tables
from wsicodec.coding.fit import CHUNK
from wsicodec.geometry import PATCH
from wsicodec.models.vit import VisionTransformer
from wsicodec.train.bundle import load_embedder
from wsicodec.train.data import DataConfig, generator, load_pictures
from wsicodec.train.embedder_eval import (
    PatchSet,
    embed,
    find_patches,
    judge,
    machine,
    unit,
    write_rows,
)
from wsicodec.train.export import round_weights
from wsicodec.train.product_quantizer import ProductQuantizer

Grid = NDArray[np.float32]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class RateSweep:
    """One table of rates, on the vectors that an embedder's stored weights give."""

    folder: str = "runs/embedder"  # a run; its vectors are kept there
    prefix: str = "average.teacher."  # of the shipped network's tensors in its checkpoint
    data: DataConfig = field(default_factory=DataConfig)
    most_per_source: int = 600  # vectors; serial sections of one tumour must not set the tables
    rates: tuple[float, ...] = (16.0, 24.0, 32.0, 48.0, 64.0)  # bytes per vector aimed at
    prefixes: tuple[int, ...] = (8, 16, 24, 32, 48)  # bytes of a product quantiser's codes
    table: str = "embedding_rate.csv"


@dataclass(frozen=True)
class EmbeddedSet:
    """Every tissue patch of a split, as vectors (n, d) and as the grids they lie on."""

    patches: PatchSet
    vectors: Grid

    def grids(self) -> list[tuple[Grid, Rows]]:
        """One grid per picture, blank cells zero, and the rows of its vectors.

        The pictures come in a random but fixed order.
        """
        owners = np.array([p for p, _, _ in self.patches.places])
        order = generator(0, 0).permutation(sorted(set(owners.tolist())))
        return [self._grid(int(n), np.flatnonzero(owners == n)) for n in order]

    def capped_grids(self, most_per_source: int) -> list[Grid]:
        """The grids; a source stops giving them once it has given `most_per_source` vectors."""
        given, kept = Counter[str](), []
        for grid, rows in self.grids():
            source = self.patches.pictures[self.patches.places[rows[0]][0]].source
            if given[source] < most_per_source:
                given[source] += len(rows)
                kept.append(grid)
        return kept

    def _grid(self, number: int, rows: Rows) -> tuple[Grid, Rows]:
        h, w = self.patches.pictures[number].shapes[0]
        grid = np.zeros((h // PATCH, w // PATCH, self.vectors.shape[1]), np.float32)
        for row in rows:
            _, y, x = self.patches.places[row]
            grid[y // PATCH, x // PATCH] = self.vectors[row]
        return grid, rows


def embed_split(model: VisionTransformer, data: DataConfig) -> EmbeddedSet:
    """Embed every tissue patch of the split that `data` names."""
    patches = find_patches(load_pictures(data), most_per_picture=10**9)
    return EmbeddedSet(patches, embed(model, patches))


def through_codec(split: EmbeddedSet, tables: EmbeddingTables) -> tuple[float, Grid]:
    """Real bytes per vector, headers and all, and the vectors that come back (n, d).

    Every picture's grid is coded alone, in chunks as a store cuts them.
    """
    total, decoded = 0, np.empty_like(split.vectors)
    for grid, rows in split.grids():
        index = np.full(grid.shape[:2], -1)
        cells = np.array([split.patches.places[row][1:] for row in rows]) // PATCH
        index[cells[:, 0], cells[:, 1]] = rows
        for y in range(0, grid.shape[0], CHUNK):
            for x in range(0, grid.shape[1], CHUNK):
                part = np.s_[y : y + CHUNK, x : x + CHUNK]
                valid = index[part] >= 0
                payload = encode_grid(grid[part], valid, tables)
                total += len(payload)
                ours = decode_grid(payload, tables, (CHUNK, CHUNK))[0]
                decoded[index[part][valid]] = ours[valid]
    return total / len(decoded), decoded


def usefulness(fit: EmbeddedSet, test: EmbeddedSet, ours: Grid) -> dict[str, Any]:
    """Distortion and usefulness of held-out vectors that came back as `ours` (n, d)."""
    true = test.vectors
    error = np.square(ours - true).sum() / np.square(true - true.mean(0)).sum()
    return {
        "cosine": round(float((unit(ours) * unit(true)).sum(1).mean()), 4),
        "relative_mse": round(float(error), 4),
        **{k: round(v, 4) for k, v in judge(fit.patches, test.patches, fit.vectors, ours).items()},
    }


def rate_row(fit: EmbeddedSet, test: EmbeddedSet, tables: EmbeddingTables) -> dict[str, Any]:
    """Rate and usefulness of held-out vectors after the store's own coding."""
    rate, ours = through_codec(test, tables)
    return {
        "coder": "transform and range coder",
        "bytes_per_vector": round(rate, 2),
        "components": tables.components,
        "step": round(tables.step, 5),
        **usefulness(fit, test, ours),
    }


def product_row(
    fit: EmbeddedSet, test: EmbeddedSet, quantizer: ProductQuantizer, prefix: int
) -> dict[str, Any]:
    """The same for the first bytes of a product quantiser's codes, which need no header."""
    return {
        "coder": "product quantiser",
        "bytes_per_vector": float(prefix),
        "components": sum(book.shape[1] for book in quantizer.books[:prefix]),
        "step": "",
        **usefulness(fit, test, quantizer.through(test.vectors, prefix)),
    }


def sweep(config: RateSweep) -> list[dict[str, Any]]:
    """Keep the vectors of train and val in the run's folder, and append a row per rate."""
    folder = Path(config.folder)
    model, facts = load_embedder(folder, config.prefix)
    round_weights(model)  # what is stored is what will be coded
    fit = embed_split(model, config.data)
    test = embed_split(model, dataclasses.replace(config.data, split="val"))
    np.save(folder / "train_vectors.npy", fit.vectors)
    np.save(folder / "val_vectors.npy", test.vectors)
    grids = fit.capped_grids(config.most_per_source)
    vectors = np.concatenate([grid[grid.any(2)] for grid in grids])
    prefixes = [count for count in config.prefixes if count <= vectors.shape[1]]
    quantizer = ProductQuantizer.fit(vectors, max(prefixes))
    todo = [
        partial(rate_row, fit, test, fit_tables(grids, target_bytes=rate)) for rate in config.rates
    ]
    todo += [partial(product_row, fit, test, quantizer, prefix) for prefix in prefixes]
    common = {"vectors_fit": len(vectors), "vectors_judged": len(test.vectors)}
    common |= {"patches_seen": facts["seen"]} | machine()
    rows = [row() | common for row in todo]
    write_rows(Path(config.table), rows)
    return rows
