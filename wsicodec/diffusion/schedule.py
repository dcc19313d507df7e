"""Noise laws: how much of the clean latent and how much noise a noisy one holds at time t.

x_t = alpha(t) z + sigma(t) eps,   t from 1 (noise) down to 0 (clean)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsicodec.diffusion.trained_steps import alpha_bars, square_root_linear


class Schedule(Protocol):
    """A noise law and the times at which a sampler looks."""

    def alpha(self, t: float) -> float:
        """Gain of the clean latent at time t in [0, 1]."""

    def sigma(self, t: float) -> float:
        """Standard deviation of the noise at time t in [0, 1]."""

    def times(self, steps: int, start: float = 1.0) -> Sequence[float]:
        """`steps` + 1 times from `start` down to 0."""


@dataclass(frozen=True, slots=True)
class FlowSchedule:
    """Rectified flow: a straight line from noise to data (Liu, Gong, Liu 2022)."""

    def alpha(self, t: float) -> float:
        """1 - t."""
        return 1.0 - t

    def sigma(self, t: float) -> float:
        """The time itself."""
        return t

    def times(self, steps: int, start: float = 1.0) -> Sequence[float]:
        """Evenly spaced."""
        return [start * (1 - i / steps) for i in range(steps + 1)]


@dataclass(frozen=True, slots=True)
class LatentDiffusionSchedule:
    """ZoomLDM's: 1000 betas, linear in their square roots (Rombach et al. 2022, "linear")."""

    length: int = 1000

    def alpha(self, t: float) -> float:
        """Square root of alpha-bar at the nearest trained step; 1 at t = 0."""
        return float(np.sqrt(self._alpha_bar(t)))

    def sigma(self, t: float) -> float:
        """Square root of one minus alpha-bar."""
        return float(np.sqrt(1.0 - self._alpha_bar(t)))

    def times(self, steps: int, start: float = 1.0) -> Sequence[float]:
        """Evenly spaced trained steps, each divided by the length of the table."""
        first = round(start * self.length)
        return [round(first * (1 - i / steps)) / self.length for i in range(steps + 1)]

    def index(self, t: float) -> int:
        """The trained step, 0 to length - 1, that the network is told for time t > 0."""
        return max(0, round(t * self.length) - 1)

    def _alpha_bar(self, t: float) -> float:
        return 1.0 if t <= 0 else float(_alpha_bars(self.length)[self.index(t)])


@cache
def _alpha_bars(length: int) -> NDArray[np.float64]:
    return alpha_bars(square_root_linear(length))


def time_of_equal_noise(schedule: Schedule, other: Schedule, t: float) -> float:
    """The time at which `schedule` has the signal-to-noise ratio that `other` has at t.

    Carries the seed paper's "start at step 500 of 1000" over to another noise law; found by
    bisection, as the ratio falls monotonically with time.
    """
    wanted = other.alpha(t) / other.sigma(t)
    low, high = 1e-6, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if schedule.alpha(middle) / schedule.sigma(middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
