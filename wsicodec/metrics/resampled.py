"""Fréchet distances while groups are drawn with replacement, quickly: from each group's moments.

What `bootstrap.resample` gives with `distances.frechet_distance`, for one true set and many drawn
ones: means and covariances of a draw are weighted sums over groups, and what belongs to the true
set is worked out once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.metrics.bootstrap import draw_groups
from wsicodec.metrics.distances import Features, as_features


@dataclass(frozen=True)
class _Moments:
    """Of each group: rows, their sum, and the sum of their outer products."""

    counts: Features  # (g,)
    sums: Features  # (g, d)
    squares: Features  # (g, d, d)

    @classmethod
    def of(cls, rows: Features, owners: NDArray[np.intp]) -> Self:
        """Of features (n, d), their groups numbered."""
        groups = [rows[owners == i] for i in range(owners.max() + 1)]
        return cls(
            np.array([float(len(part)) for part in groups]),
            np.stack([part.sum(0) for part in groups]),
            np.stack([part.T @ part for part in groups]),
        )

    def law(self, weights: Features) -> tuple[Features, Features]:
        """Mean (d,) and unbiased covariance (d, d) with every group taken `weights` times."""
        count = float(weights @ self.counts)
        mean = weights @ self.sums / count
        squares = np.tensordot(weights, self.squares, 1)
        return mean, np.asarray((squares - count * np.outer(mean, mean)) / (count - 1))


class Resampling:
    """Draws of groups, and the true set's normal law in each.

    Args:
        true: features (n, d).
        groups: the slide or field of each row.
        count: draws.
        seed: of the draws; as in `bootstrap.resample`.

    Raises:
        ConfigError: fewer than two groups.
    """

    def __init__(
        self, true: NDArray[np.floating], groups: Sequence[object], count: int, seed: int = 0
    ) -> None:
        rows = as_features(true, 2)
        names = {name: i for i, name in enumerate(dict.fromkeys(map(str, groups)))}
        if len(names) < 2:
            raise ConfigError(f"expected at least two slides or fields, got {len(names)}")
        self._owners = np.array([names[str(name)] for name in groups])
        self._centre = rows.mean(0)  # taken off both sets: sums of squares cancel less
        moments = _Moments.of(rows - self._centre, self._owners)
        rng = np.random.default_rng(seed)
        drawn = [draw_groups(len(names), rng) for _ in range(count)]
        self._weights = [np.bincount(c, minlength=len(names)).astype(float) for c in drawn]
        laws = [moments.law(weights) for weights in self._weights]
        self._means = [mean for mean, _ in laws]
        self._roots = [_root(covariance) for _, covariance in laws]

    def distances(self, drawn: NDArray[np.floating]) -> Features:
        """Squared Fréchet distance (count,) of each draw; rows of `drawn` (n, d) pair with true.

        The trace of the product's root is that of root(A) B root(A), which is symmetric (Dowson &
        Landau 1982, eq. 16).
        """
        moments = _Moments.of(as_features(drawn, 2) - self._centre, self._owners)
        found = []
        for weights, mean, root in zip(self._weights, self._means, self._roots, strict=True):
            other, covariance = moments.law(weights)
            shared = np.linalg.eigvalsh(root @ covariance @ root)
            spread = np.square(root).sum() + np.trace(covariance)
            shift = np.square(mean - other).sum()
            found.append(float(shift + spread - 2 * np.sqrt(np.maximum(shared, 0)).sum()))
        return np.maximum(found, 0)


def _root(covariance: Features) -> Features:
    """The symmetric root of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
