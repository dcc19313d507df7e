"""Fit the integer tables of a bundle to real embeddings (training only, floats allowed).

The Karhunen-Loeve transform decorrelates the values; one step for all components is reverse
water-filling, the best split of a rate among Gaussian components (Cover and Thomas, Elements of
Information Theory, 2nd ed., theorem 10.3.3).
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.fit_model import Grids, fit_model, flat_model
from wsicodec.coding.predictor import estimated_bits
from wsicodec.coding.quantizer import FRACTION_BITS, EmbeddingTables, dequantize, quantize
from wsicodec.errors import ConfigError

CHUNK = 32  # cells; side of the grids that adaptation is learned on, that of a store's chunks
DEAD_ZONE = 0.62  # steps
SEARCH_ROUNDS = 16  # halvings of the step's interval on a log scale
SEARCH_VECTORS = 8192  # vectors that a search looks at; the final fit uses all

Floats = NDArray[np.floating[Any]]
Embeddings = Floats | Sequence[Floats]
"""Vectors (n, d) without a place, or grids (gh, gw, d) whose blank cells are zeros."""


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One operating point on held-out embeddings."""

    step: float  # bin width in units of the embedding
    components: int  # symbols per vector
    bytes_per_vector: float  # estimated, without headers
    relative_mse: float  # squared error over variance around the vectors' own mean
    cosine: float  # mean cosine of decoded and original vectors


def fit_tables(
    embeddings: Embeddings,
    *,
    step: float | None = None,
    target_relative_error: float | None = None,
    target_bytes: float | None = None,
    dead_zone: float = DEAD_ZONE,
) -> EmbeddingTables:
    """Fit basis, mean and frequency tables to training embeddings.

    embeddings: grids (gh, gw, d) with blank cells zero, or vectors (n, d) if they have no place;
        only grids teach what neighbours tell
    step: bin width in units of the embedding, or instead of it
    target_relative_error: squared error over variance around the mean not to be passed, or
    target_bytes: estimated payload bytes per vector not to be passed
    dead_zone: steps around zero, 0.5 to 1

    Raises ConfigError unless exactly one of the three is given and the embeddings are usable.
    """
    targets = (step, target_relative_error, target_bytes)
    if sum(t is not None for t in targets) != 1 or not all(t is None or t > 0 for t in targets):
        raise ConfigError(
            "expected exactly one of step, target_relative_error and target_bytes, above zero; "
            f"got {targets}"
        )
    chunks = Chunks.of(embeddings)
    transform = karhunen_loeve(chunks.vectors)
    if step is None:
        few = chunks.first(SEARCH_VECTORS)

        def too_fine(candidate: float) -> bool:
            point = measure(few, _tables(few, transform, candidate, dead_zone))
            if target_bytes is not None:
                return point.bytes_per_vector > target_bytes
            return point.relative_mse <= (target_relative_error or 0.0)

        step = _search_step(too_fine, transform, finest=target_bytes is not None)
    return _tables(chunks, transform, step, dead_zone)


def rate_distortion(
    embeddings_fit: Embeddings,
    embeddings_test: Embeddings,
    steps: Iterable[float],
    dead_zone: float = DEAD_ZONE,
) -> list[RatePoint]:
    """Operating points of tables fitted to one set and measured on another.

    embeddings_fit, embeddings_test: as for `fit_tables`, from different slides
    steps: bin widths in units of the embedding
    """
    fit, test = Chunks.of(embeddings_fit), Chunks.of(embeddings_test)
    transform = karhunen_loeve(fit.vectors)
    return [measure(test, _tables(fit, transform, step, dead_zone)) for step in steps]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Embeddings cut as a store cuts them.

    vectors: (n, d) of all valid cells, chunk by chunk, row-major inside
    masks: validity (gh, gw) of each chunk, at most CHUNK x CHUNK
    """

    vectors: NDArray[np.float64]
    masks: tuple[NDArray[np.bool_], ...]

    @classmethod
    def of(cls, embeddings: Embeddings) -> "Chunks":
        """Cut grids into chunks; scatter placeless vectors so that none has a neighbour."""
        grids = _scatter(embeddings) if isinstance(embeddings, np.ndarray) else list(embeddings)
        parts, masks = [], []
        for grid in grids:
            for y in range(0, grid.shape[0], CHUNK):
                for x in range(0, grid.shape[1], CHUNK):
                    part = grid[y : y + CHUNK, x : x + CHUNK]
                    valid = np.asarray(part.any(axis=2), np.bool_)
                    if valid.any():
                        parts.append(np.asarray(part[valid], np.float64))
                        masks.append(valid)
        vectors = np.concatenate(parts) if parts else np.zeros((0, 1))
        if not bool(np.isfinite(vectors).all()) or not bool((vectors != vectors[:1]).any()):
            raise ConfigError(
                f"expected finite embeddings that differ from each other, got {len(vectors)} "
                "vectors without; check the embedder's output"
            )
        return cls(vectors, tuple(masks))

    def first(self, count: int) -> "Chunks":
        """The first chunks, up to the one that holds vector number `count`."""
        ends = np.cumsum([int(mask.sum()) for mask in self.masks])
        chunks = int(np.searchsorted(ends, count)) + 1
        return Chunks(self.vectors[: ends[:chunks][-1]], self.masks[:chunks])

    def split(self, symbols: NDArray[np.int32]) -> Grids:
        """Symbols (n, k) of all vectors as pairs of one chunk's symbols and validity."""
        ends = np.cumsum([int(mask.sum()) for mask in self.masks])
        return list(zip(np.split(symbols, ends[:-1]), self.masks, strict=True))


@dataclass(frozen=True, slots=True)
class Transform:
    """Karhunen-Loeve transform: mean (d,), orthonormal rows (d, d), standard deviations (d,)."""

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    deviations: NDArray[np.float64]


def karhunen_loeve(vectors: NDArray[np.float64]) -> Transform:
    """Mean and eigenvectors of the covariance of vectors (n, d), by falling variance.

    Each row's largest entry is positive, so that a repeated fit gives the same tables.
    """
    mean = vectors.mean(axis=0)
    values, columns = np.linalg.eigh(np.cov(vectors, rowvar=False, bias=True))
    basis = columns.T[::-1]
    largest = np.take_along_axis(basis, np.abs(basis).argmax(axis=1, keepdims=True), axis=1)
    return Transform(mean, basis * np.sign(largest), np.sqrt(np.maximum(values[::-1], 0)))


def relative_mse(vectors: Floats, decoded: Floats) -> float:
    """Squared error over the variance of the vectors around their own mean; both (n, d)."""
    error = np.square(vectors - decoded).sum()
    return float(error / np.square(vectors - vectors.mean(axis=0)).sum())


def measure(chunks: Chunks, tables: EmbeddingTables) -> RatePoint:
    """Estimated rate and distortion of embeddings coded with `tables`."""
    vectors = chunks.vectors
    symbols = quantize(vectors, tables)
    decoded = dequantize(symbols, tables).astype(np.float64)
    bits = sum(estimated_bits(s, valid, tables.model) for s, valid in chunks.split(symbols))
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(decoded, axis=1)
    cosine = (vectors * decoded).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return RatePoint(
        step=tables.step,
        components=tables.components,
        bytes_per_vector=bits / 8 / len(vectors),
        relative_mse=relative_mse(vectors, decoded),
        cosine=float(cosine.mean()),
    )


def _scatter(vectors: Floats) -> list[Floats]:
    """Placeless vectors (n, d) on every second cell of 32 x 32 grids, like a chessboard."""
    if vectors.ndim != 2:
        raise ConfigError(
            f"expected vectors (n, d) or a sequence of grids, got an array {vectors.shape}"
        )
    cells = np.flatnonzero(np.add.outer(np.arange(CHUNK), np.arange(CHUNK)).ravel() % 2 == 0)
    grids = []
    for start in range(0, len(vectors), len(cells)):
        part = vectors[start : start + len(cells)]
        grid = np.zeros((CHUNK * CHUNK, vectors.shape[1]), vectors.dtype)
        grid[cells[: len(part)]] = part
        grids.append(grid.reshape(CHUNK, CHUNK, -1))
    return grids


def _search_step(too_fine: Callable[[float], bool], transform: Transform, *, finest: bool) -> float:
    """The finest step that is not too fine, or the coarsest that is, by bisection."""
    low, high = transform.deviations[0] / 1000, transform.deviations[0] * 8
    for _ in range(SEARCH_ROUNDS):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if too_fine(middle) else (low, middle)
    return float(high if finest else low)


def _tables(chunks: Chunks, transform: Transform, step: float, dead_zone: float) -> EmbeddingTables:
    """Tables at one step; components that never leave zero are dropped."""
    one = 1 << FRACTION_BITS
    mean = np.rint(transform.mean * (one / step))
    if np.abs(mean).max() >= 1 << 31:
        raise ConfigError(f"expected a larger step for embeddings that far from zero, got {step}")
    everything = EmbeddingTables(
        basis=np.rint(transform.basis * one).astype(np.int32),
        mean=mean.astype(np.int32),
        step=float(step),
        dead_zone=round(dead_zone * one),
        model=flat_model(len(transform.basis)),
    )
    symbols = quantize(chunks.vectors, everything)
    kept = np.flatnonzero(symbols.any(axis=0))
    kept = kept if len(kept) else np.zeros(1, np.int64)
    return dataclasses.replace(
        everything,
        basis=everything.basis[kept],
        model=fit_model(chunks.split(symbols[:, kept])),
    )
