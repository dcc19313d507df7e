"""Fit the entropy model to the symbols of training grids (training only, floats allowed)."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import (
    CLASSES,
    FINE_BITS,
    MAX_REACH,
    PHASES,
    PRECISION,
    EntropyModel,
)
from wsicodec.coding.predictor import CLASS_EDGES, Predictor, diagonals, walk

REACH_QUANTILE = 0.9999  # share of residuals that need no escape
LEAST_REACH = 15  # so that slides unlike the training tissue escape seldom
LAPLACE_COUNT = 30.0  # residuals that the Laplace prior of a class counts as
CLASS_COUNT = 10.0  # residuals that the class's histogram counts as in that of a phase

Grids = Sequence[tuple[NDArray[np.int32], NDArray[np.bool_]]]
"""Symbols (n, k) of the valid cells in row-major order, and validity (gh, gw), of each grid."""


def fit_model(grids: Grids) -> EntropyModel:
    """Priors, neighbour weights and frequency tables from training symbols."""
    blank = flat_model(grids[0][0].shape[1])
    weights = np.rint(_neighbour_weights(grids) * (1 << FINE_BITS)).astype(np.int32)
    model = dataclasses.replace(blank, neighbour_weights=weights)
    model = dataclasses.replace(model, prior_magnitudes=_mean_errors(grids, model))
    walked = [part for symbols, valid in grids for part in walk(symbols, valid, model)]
    rows = np.concatenate([rows.ravel() for rows, _ in walked])
    residuals = np.concatenate([residuals.ravel() for _, residuals in walked])
    reach = int(np.clip(np.quantile(np.abs(residuals), REACH_QUANTILE), LEAST_REACH, MAX_REACH))
    return dataclasses.replace(model, frequencies=_frequencies(rows, residuals, reach))


def flat_model(components: int) -> EntropyModel:
    """A model that knows nothing: unit priors, no neighbours, equal frequencies."""
    table = to_frequencies(np.ones(2 * LEAST_REACH + 2))
    return EntropyModel(
        prior_magnitudes=np.full(components, 1 << FINE_BITS, np.int32),
        neighbour_weights=np.zeros(components, np.int32),
        frequencies=np.tile(table, (CLASSES, PHASES, 1)),
    )


def to_frequencies(weights: NDArray[np.float64]) -> NDArray[np.int32]:
    """Integer frequencies near to `weights` (symbols,), each at least 1, that sum to 65536."""
    free = (1 << PRECISION) - len(weights)
    cumulative = np.rint(np.cumsum(weights) / weights.sum() * free).astype(np.int64)
    return np.asarray(np.diff(cumulative, prepend=0) + 1, np.int32)


def _neighbour_weights(grids: Grids) -> NDArray[np.float64]:
    """Regression (k,) of a symbol on the mean of its left and upper neighbour, 0 to 1."""
    product = variance = np.zeros(grids[0][0].shape[1])
    for symbols, valid in grids:
        dense = np.zeros((*valid.shape, symbols.shape[1]))
        dense[valid] = symbols - symbols.mean(axis=0)
        whole = valid[1:, 1:] & valid[1:, :-1] & valid[:-1, 1:]
        near = (dense[1:, :-1] + dense[:-1, 1:])[whole] / 2
        product = product + (dense[1:, 1:][whole] * near).sum(axis=0)
        variance = variance + np.square(near).sum(axis=0)
    # One pseudo-count keeps components that are almost always zero from weights out of nothing.
    return np.asarray(np.clip(product / (variance + 1), 0, 1))


def _mean_errors(grids: Grids, model: EntropyModel) -> NDArray[np.int32]:
    """Mean absolute error (k,) of the expected values over all cells, in 1/256 symbols."""
    total, cells = np.zeros(model.components, np.int64), 0
    for symbols, valid in grids:
        predictor = Predictor(valid, model)
        before = predictor.spread.copy()
        for numbers in diagonals(valid):
            predictor.predict(numbers)
            predictor.learn(numbers, symbols[numbers].astype(np.int64))
        total += predictor.spread - before
        cells += len(symbols)
    return np.clip(total // cells, 1, 1 << 28).astype(np.int32)


def _frequencies(
    rows: NDArray[np.int64], residuals: NDArray[np.int64], reach: int
) -> NDArray[np.int32]:
    """Tables (CLASSES, PHASES, symbols): histograms, each with a wider one as its prior."""
    size = 2 * reach + 2
    columns = np.where(np.abs(residuals) <= reach, residuals + reach, size - 1)
    counts = np.bincount(rows * size + columns, minlength=CLASSES * PHASES * size)
    tables = np.zeros((CLASSES, PHASES, size), np.int32)
    for q, phases in enumerate(counts.reshape(CLASSES, PHASES, size)):
        whole = phases.sum(axis=0) + LAPLACE_COUNT * _laplace(_magnitude(q), reach)
        for p, histogram in enumerate(phases):
            tables[q, p] = to_frequencies(histogram + CLASS_COUNT * whole / whole.sum())
    return tables


def _magnitude(q: int) -> float:
    """The middle of magnitude class `q` in symbols."""
    edge = int(CLASS_EDGES[min(q, len(CLASS_EDGES) - 1)])
    return edge / math.sqrt(math.sqrt(2)) / (1 << FINE_BITS)


def _laplace(magnitude: float, reach: int) -> NDArray[np.float64]:
    """Discretised Laplace probabilities with mean absolute value `magnitude`, escape last.

    p(s) is proportional to r**|s|; a mean of |s| of m gives r = (sqrt(1 + m**2) - 1) / m.
    """
    ratio = (math.sqrt(1 + magnitude**2) - 1) / magnitude
    inside = (1 - ratio) / (1 + ratio) * ratio ** np.abs(np.arange(-reach, reach + 1))
    return np.append(inside, max(1 - inside.sum(), 1e-9))
