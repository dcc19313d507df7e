"""Distances between two sets of features, each an array (n, d) with one row per picture.

All are computed in float64. `true` is what was there, `drawn` is what a codec gives back.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Features = NDArray[np.float64]
ROWS = 1024  # of a matrix of pairs held at a time


def as_features(rows: NDArray[np.floating], least: int = 1) -> Features:
    """The same rows in float64; raises ConfigError unless (n >= least, d) and finite."""
    features = np.asarray(rows, np.float64)
    if features.ndim != 2 or len(features) < least or features.shape[1] < 1:
        raise ConfigError(
            f"expected features (n, d) of at least {least} pictures, got shape {features.shape}; "
            "take more or smaller patches"
        )
    if not np.isfinite(features).all():
        raise ConfigError("expected finite features, got NaN or infinity; check the extractor")
    return features


def _pair(
    true: NDArray[np.floating], drawn: NDArray[np.floating], least: int
) -> tuple[Features, Features]:
    a, b = as_features(true, least), as_features(drawn, least)
    if a.shape[1] != b.shape[1]:
        raise ConfigError(f"expected features of one width, got {a.shape[1]} and {b.shape[1]}")
    return a, b


@dataclass(frozen=True)
class Gaussian:
    """A normal law by its mean (d,) and a factor (k, d) whose Gram matrix is the covariance."""

    mean: Features
    factor: Features


def fit_gaussian(rows: NDArray[np.floating]) -> Gaussian:
    """Mean and unbiased covariance of features (n >= 2, d), as a factor of min(n, d) rows."""
    features = as_features(rows, 2)
    mean = features.mean(0)
    deviations = (features - mean) / np.sqrt(len(features) - 1)
    return Gaussian(mean, np.asarray(np.linalg.qr(deviations, mode="r")))


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance of two normal laws (Dowson & Landau 1982, eq. 16).

    With covariances A'A and B'B the trace of their product's root is the sum of AB''s singular
    values, so nothing is squared and a covariance without full rank needs no repair.
    """
    shift = float(np.square(a.mean - b.mean).sum())
    spread = float(np.square(a.factor).sum() + np.square(b.factor).sum())
    shared = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    return max(0.0, shift + spread - 2 * float(shared))


def frechet_distance(true: NDArray[np.floating], drawn: NDArray[np.floating]) -> float:
    """Squared Fréchet distance of normal laws fitted to both sets (Heusel et al. 2017).

    Args:
        true: features (n, d).
        drawn: features (m, d); n and m may differ, and may be below d.

    Raises:
        ConfigError: fewer than two rows, other widths, or values that are not finite.
    """
    a, b = _pair(true, drawn, 2)
    return gaussian_distance(fit_gaussian(a), fit_gaussian(b))


def kernel_distance(true: NDArray[np.floating], drawn: NDArray[np.floating]) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x y / d + 1)^3.

    Binkowski et al. 2018, eq. 4, over all rows instead of the mean over random subsets; below
    zero where the sets cannot be told apart.
    """
    a, b = _pair(true, drawn, 2)

    def kernel(x: Features, y: Features) -> Features:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    within = 0.0
    for rows in (a, b):
        total = sum(float(kernel(part, rows).sum()) for part in _parts(rows))
        own = float(((np.square(rows).sum(1) / rows.shape[1] + 1) ** 3).sum())
        within += (total - own) / (len(rows) * (len(rows) - 1))
    across = sum(float(kernel(part, b).sum()) for part in _parts(a)) / (len(a) * len(b))
    return within - 2 * across


def cmmd(
    true: NDArray[np.floating],
    drawn: NDArray[np.floating],
    sigma: float = 10.0,
    scale: float = 1000.0,
) -> float:
    """Squared maximum mean discrepancy with a Gaussian kernel, times `scale`.

    Jayasumana et al. 2024, section 4: biased, over rows of length one (made so here); its
    features are CLIP's, for which `sigma` and `scale` were chosen.

    Raises:
        ConfigError: as above, or a row of zeros.
    """
    a, b = (_unit(rows) for rows in _pair(true, drawn, 1))

    def mean(x: Features, y: Features) -> float:
        total = 0.0
        for part in _parts(x):
            total += float(np.exp(-squared_distances(part, y) / (2 * sigma**2)).sum())
        return total / (len(x) * len(y))

    return scale * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


def precision_recall(
    true: NDArray[np.floating], drawn: NDArray[np.floating], neighbours: int = 3
) -> tuple[float, float]:
    """Precision and recall by nearest neighbours (Kynkäänniemi et al. 2019, eq. 1 and 2).

    Precision is the share of drawn pictures inside the balls of true ones; recall the reverse. A
    picture's ball reaches to the `neighbours`-th nearest other one of its set.
    """
    a, b = _pair(true, drawn, neighbours + 1)
    return _covered(b, a, neighbours), _covered(a, b, neighbours)


def squared_distances(a: Features, b: Features) -> Features:
    """Squared Euclidean distances (len(a), len(b)), none below zero."""
    norms = np.square(a).sum(1)[:, None] + np.square(b).sum(1)
    return np.asarray(np.maximum(norms - 2 * a @ b.T, 0))


def _covered(points: Features, centres: Features, neighbours: int) -> float:
    radii = np.concatenate(
        [
            np.partition(squared_distances(part, centres), neighbours, axis=1)[:, neighbours]
            for part in _parts(centres)
        ]
    )
    inside = sum(
        int((squared_distances(part, centres) <= radii).any(1).sum()) for part in _parts(points)
    )
    return inside / len(points)


def _parts(rows: Features) -> Iterator[Features]:
    for first in range(0, len(rows), ROWS):
        yield rows[first : first + ROWS]


def _unit(rows: Features) -> Features:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not lengths.all():
        raise ConfigError("expected features other than zero, got a row of zeros")
    return np.asarray(rows / lengths)
