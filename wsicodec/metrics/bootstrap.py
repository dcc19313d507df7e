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


def resample(
    measure: Callable[[Rows], float], groups: Sequence[object], *, count: int = 200, seed: int = 0
) -> NDArray[np.float64]:
    """`measure` over groups drawn with replacement (Efron 1979), `count` times.

    A distance between sets grows when rows repeat, so the draws are moved by what separates their
    mean from the figure of all groups; this takes nothing from their spread. The same seed draws
    alike whatever is measured, so draws of two codecs belong together one by one.

    Args:
        measure: a figure of the rows whose numbers it is given; rows may repeat.
        groups: the slide or field of each row.
        count: draws.
        seed: of the draws.

    Raises:
        ConfigError: fewer than two groups.
    """
    labels = [str(group) for group in groups]
    members = [np.flatnonzero(np.array(labels) == name) for name in dict.fromkeys(labels)]
    if len(members) < 2:
        raise ConfigError(f"expected at least two slides or fields to resample, got {len(members)}")
    value = measure(np.arange(len(labels)))
    rng = np.random.default_rng(seed)
    drawn = [
        np.concatenate([members[i] for i in draw_groups(len(members), rng)]) for _ in range(count)
    ]
    return around(value, np.array([measure(rows) for rows in drawn]))


def around(value: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws moved so that their mean is the figure of all groups."""
    return np.asarray(draws + (value - draws.mean()))


def interval(value: float, draws: NDArray[np.float64], level: float = 0.95) -> Interval:
    """The part of the draws that holds `level` of them, and the figure itself in any case."""
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(min(low, value)), float(max(high, value)))


def bootstrap(
    measure: Callable[[Rows], float],
    groups: Sequence[object],
    *,
    count: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of `measure` over groups drawn with replacement; see `resample`.

    level: share of draws inside the interval.
    """
    draws = resample(measure, groups, count=count, seed=seed)
    return interval(measure(np.arange(len(groups))), draws, level)


def draw_groups(count: int, rng: np.random.Generator) -> list[int]:
    """Numbers of `count` groups drawn with replacement, two different ones at least."""
    # One group alone repeated makes sets that no distance is defined for.
    while len(set(chosen := rng.integers(0, count, count).tolist())) < 2:
        pass
    return [int(i) for i in chosen]
