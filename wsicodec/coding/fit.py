"""Fit the integer tables of a bundle to real embedding vectors (training only, floats allowed).

The Karhunen-Loeve transform decorrelates the values; one step for all components is reverse
water-filling, the best split of a rate among Gaussian components at high rate (Cover and Thomas,
Elements of Information Theory, 2nd ed., theorem 10.3.3).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import MAX_REACH, PRECISION, EntropyModel, estimated_bits
from wsicodec.coding.quantizer import FRACTION_BITS, EmbeddingTables, dequantize, quantize
from wsicodec.errors import ConfigError

REACH_QUANTILE = 0.9999  # share of symbols that need no escape
PRIOR_WEIGHT = 30.0  # vectors that the Laplace prior of a histogram counts as
SEARCH_ROUNDS = 18  # halvings of the step's interval on a log scale

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One operating point on held-out vectors."""

    step: float  # bin width in units of the embedding
    components: int  # symbols per vector
    bytes_per_vector: float  # estimated, without headers
    relative_mse: float  # squared error over variance around the fitted mean
    cosine: float  # mean cosine of decoded and original vectors


def fit_tables(
    vectors: Floats,
    *,
    step: float | None = None,
    target_relative_error: float | None = None,
    target_bytes: float | None = None,
) -> EmbeddingTables:
    """Fit basis, mean and frequency tables to training vectors.

    vectors: (n, d), n at least 2
    step: bin width in units of the embedding, or instead of it
    target_relative_error: squared error over variance around the mean that shall be kept, or
    target_bytes: estimated payload bytes per vector that shall not be passed

    Raises ConfigError unless exactly one of the three is given and can be reached.
    """
    targets = (step, target_relative_error, target_bytes)
    if sum(t is not None for t in targets) != 1 or not all(t is None or t > 0 for t in targets):
        raise ConfigError(
            "expected exactly one of step, target_relative_error and target_bytes, above zero; "
            f"got {targets}"
        )
    vectors = _check_vectors(vectors)
    transform = karhunen_loeve(vectors)
    if step is None:
        step = _search_step(vectors, transform, target_relative_error, target_bytes)
    return _tables(vectors, transform, step)


def rate_distortion(
    vectors_fit: Floats, vectors_test: Floats, steps: Iterable[float]
) -> list[RatePoint]:
    """Operating points of tables fitted to one set and measured on another.

    vectors_fit, vectors_test: (n, d), from different slides
    steps: bin widths in units of the embedding
    """
    fit, test = _check_vectors(vectors_fit), _check_vectors(vectors_test)
    transform = karhunen_loeve(fit)
    return [_measure(test, _tables(fit, transform, step)) for step in steps]


@dataclass(frozen=True, slots=True)
class Transform:
    """Karhunen-Loeve transform: mean (d,), orthonormal rows (d, d), standard deviations (d,)."""

    mean: NDArray[np.float64]
    basis: NDArray[np.float64]
    deviations: NDArray[np.float64]


def karhunen_loeve(vectors: NDArray[np.float64]) -> Transform:
    """Mean and eigenvectors of the covariance, by falling variance.

    vectors: (n, d)

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


def _check_vectors(vectors: Floats) -> NDArray[np.float64]:
    if vectors.ndim != 2 or len(vectors) < 2 or not bool(np.isfinite(vectors).all()):
        raise ConfigError(
            f"expected at least two finite vectors (n, d) to fit to, got shape {vectors.shape}; "
            "check the embedder's output"
        )
    if not bool((vectors != vectors[0]).any()):
        raise ConfigError("expected vectors that differ, got one vector repeated")
    return vectors.astype(np.float64)


def _search_step(
    vectors: NDArray[np.float64],
    transform: Transform,
    target_relative_error: float | None,
    target_bytes: float | None,
) -> float:
    """The largest step within the error, or the smallest within the bytes, by bisection."""
    low, high = transform.deviations[0] / 1000, transform.deviations[0] * 8
    for _ in range(SEARCH_ROUNDS):
        middle = float(np.sqrt(low * high))
        point = _measure(vectors, _tables(vectors, transform, middle))
        if target_relative_error is not None:
            finer = point.relative_mse > target_relative_error
        else:
            finer = target_bytes is not None and point.bytes_per_vector <= target_bytes
        low, high = (low, middle) if finer else (middle, high)
    return float(low if target_relative_error is not None else high)


def _tables(vectors: NDArray[np.float64], transform: Transform, step: float) -> EmbeddingTables:
    one = 1 << FRACTION_BITS
    mean = np.rint(transform.mean * (one / step))
    if np.abs(mean).max() >= 1 << 31:
        raise ConfigError(f"expected a step above {step} for a mean that large; use a larger one")
    symbols = np.rint((vectors - transform.mean) @ transform.basis.T / step)
    kept = np.flatnonzero(symbols.any(axis=0))
    kept = kept if len(kept) else np.zeros(1, np.int64)
    basis = np.rint(transform.basis[kept] * one).astype(np.int32)
    model = _fit_model(symbols[:, kept].astype(np.int32))
    return EmbeddingTables(basis, mean.astype(np.int32), float(step), model)


def _measure(vectors: NDArray[np.float64], tables: EmbeddingTables) -> RatePoint:
    symbols = quantize(vectors, tables)
    decoded = dequantize(symbols, tables).astype(np.float64)
    # Vectors without a place: every one is a cell of its own, without neighbours.
    bits = estimated_bits(symbols, None, tables.model)
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(decoded, axis=1)
    cosine = (vectors * decoded).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
    return RatePoint(
        step=tables.step,
        components=tables.components,
        bytes_per_vector=bits / 8 / len(vectors),
        relative_mse=relative_mse(vectors, decoded),
        cosine=float(cosine.mean()),
    )


def _fit_model(symbols: NDArray[np.int32]) -> EntropyModel:
    reach = int(np.clip(np.quantile(np.abs(symbols), REACH_QUANTILE), 1, MAX_REACH))
    tables = np.stack([_frequencies(column, reach) for column in symbols.T])
    k = len(tables)
    return EntropyModel(
        context_weights=np.zeros((k, 2), np.int32),
        context_edges=np.zeros((k, 0), np.int32),
        frequencies=np.repeat(tables[:, None], 2, axis=1),
    )


def _frequencies(symbols: NDArray[np.int32], reach: int) -> NDArray[np.int32]:
    """One table: the histogram with a discretised Laplace distribution as its prior."""
    inside = np.abs(symbols) <= reach
    counts = np.bincount(np.where(inside, symbols + reach, 2 * reach + 1), minlength=2 * reach + 2)
    return to_frequencies(counts + PRIOR_WEIGHT * _laplace(float(np.abs(symbols).mean()), reach))


def _laplace(magnitude: float, reach: int) -> NDArray[np.float64]:
    """Discretised Laplace probabilities with mean absolute value `magnitude`, escape last.

    p(s) is proportional to r**|s|; a mean of |s| of m gives r = (sqrt(1 + m**2) - 1) / m.
    """
    mean = max(magnitude, 1e-3)
    ratio = (np.sqrt(1 + mean**2) - 1) / mean
    inside = (1 - ratio) / (1 + ratio) * ratio ** np.abs(np.arange(-reach, reach + 1))
    return np.append(inside, max(1 - inside.sum(), 1e-9))


def to_frequencies(weights: NDArray[np.float64]) -> NDArray[np.int32]:
    """Integer frequencies, each at least 1, that sum to 2**PRECISION, near to `weights`.

    weights: (symbols,), not negative
    """
    free = (1 << PRECISION) - len(weights)
    cumulative = np.rint(np.cumsum(weights) / weights.sum() * free).astype(np.int64)
    return (np.diff(cumulative, prepend=0) + 1).astype(np.int32)
