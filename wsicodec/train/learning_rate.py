"""The learning rate as a function of patches seen, and of nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RateConfig:
    """A trapezoid: rise, hold, fall."""

    peak: float = 1e-3
    warmup: int = 4_000  # patches over which it rises
    total: int = 100_000  # patches at which it has fallen to `floor`
    fall: float = 0.3  # share of `total` over which it falls
    floor: float = 0.02  # of the peak, at the end and after it


def rate(config: RateConfig, seen: int) -> float:
    """Learning rate after `seen` patches (trapezoid of Hägele et al. 2024, linear fall)."""
    rise = min(1.0, (seen + 1) / max(config.warmup, 1))
    left = (config.total - seen) / max(config.fall * config.total, 1)
    return config.peak * min(rise, max(config.floor, min(1.0, left)))
