"""Intervals by resampling whole slides or fields, because patches of one are not independent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Interval:
    """A figure of all groups and the interval that resampling them gives."""

    value: float
    low: float
    high: float

    def apart(self, other: "Interval") -> bool:
        """Whether the two intervals do not touch."""
        return self.low > other.high or other.low > self.high


def bootstrap(
    measure: Callable[[Rows], float],
    groups: Sequence[object],
    *,
    count: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of `measure` over groups drawn with replacement (Efron 1979).

    A distance between sets grows when rows repeat, so percentiles of the draws are moved by what
    separates their mean from the figure of all groups; this takes nothing from their width.

    Args:
        measure: a figure of the rows whose numbers it is given; rows may repeat.
        groups: the slide or field of each row.
        count: draws.
        level: share of draws inside the interval.
        seed: of the draws; the same seed resamples alike, whatever is measured.

    Raises:
        ConfigError: fewer than two groups.
    """
    labels = [str(group) for group in groups]
    members = [np.flatnonzero(np.array(labels) == name) for name in dict.fromkeys(labels)]
    if len(members) < 2:
        raise ConfigError(f"expected at least two slides or fields to resample, got {len(members)}")
    value = measure(np.arange(len(labels)))
    rng = np.random.default_rng(seed)
    draws = np.array([measure(_draw(members, rng)) for _ in range(count)])
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail]) + (value - draws.mean())
    return Interval(value, float(min(low, value)), float(max(high, value)))


def _draw(members: Sequence[Rows], rng: np.random.Generator) -> Rows:
    # One group alone repeated makes sets that no distance is defined for.
    while len(set(chosen := rng.integers(0, len(members), len(members)).tolist())) < 2:
        pass
    return np.concatenate([members[i] for i in chosen])
