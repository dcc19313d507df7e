"""The table of noise levels that published latent diffusion is trained on, and ways down it.

    beta_t = linspace(sqrt(first), sqrt(last), length)[t] ** 2,   alpha_bar_t = prod(1 - beta)

Rombach et al. 2022 call this "linear"; it is linear in the square root ("scaled_linear" elsewhere).
Step t is an index from 0, and it is what the network is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Table = NDArray[np.float64]
LENGTH, FIRST, LAST = 1000, 0.0015, 0.0195

# A thousand products rounded to float32 are off by 6e-5 at most; another schedule by far more.
RELATIVE, ABSOLUTE = 1e-4, 1e-7


def square_root_linear(length: int = LENGTH, first: float = FIRST, last: float = LAST) -> Table:
    """The betas (length,), evenly spaced in their square roots."""
    return np.asarray(np.linspace(first**0.5, last**0.5, length) ** 2, np.float64)


def alpha_bars(betas: Table) -> Table:
    """The share of the clean latent's power that is left after every step (length,)."""
    return np.asarray(np.cumprod(1.0 - betas), np.float64)


def schedule_buffers(betas: Table) -> dict[str, Table]:
    """The twelve tables that a latent-diffusion checkpoint carries, by their published names.

    The last four are the posterior of Ho, Jain, Abbeel 2020, eq. 7.
    """
    after = alpha_bars(betas)
    before = np.concatenate(([1.0], after[:-1]))
    variance = betas * (1 - before) / (1 - after)
    return {
        "betas": betas,
        "alphas_cumprod": after,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(after),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - after),
        "log_one_minus_alphas_cumprod": np.log(1 - after),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / after),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / after - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - after),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - after),
    }


def unlike_schedule(found: Mapping[str, NDArray[np.floating]], betas: Table) -> list[str]:
    """Names of the twelve tables that are missing, of another length, or off by more than 1e-4."""
    return [
        name
        for name, expected in schedule_buffers(betas).items()
        if name not in found
        or found[name].shape != expected.shape
        or not np.allclose(found[name], expected, rtol=RELATIVE, atol=ABSOLUTE)
    ]


@dataclass(frozen=True, slots=True)
class Way:
    """Trained steps in the order they are evaluated, and the noise levels between them."""

    steps: tuple[int, ...]  # told to the network, falling
    alpha_bar: tuple[float, ...]  # one more: at every step, and where the last one leads


def way_from_noise(count: int, table: Sequence[float] | Table) -> Way:
    """The published way: `count` steps one past the multiples of length / count, ending at step 0.

    With 50 steps of 1000 these are 981, 961, ..., 1, and the last leads to alpha_bar[0], not to 1.
    """
    length = len(table)
    if not 0 < count < length or length % count:
        raise ConfigError(
            f"expected a number of steps that divides {length} and is less, got {count}"
        )
    steps = tuple(range(length - length // count + 1, 0, -(length // count)))
    return Way(steps, (*(float(table[t]) for t in steps), float(table[0])))


def way_from_step(start: int, stride: int, table: Sequence[float] | Table) -> Way:
    """From a noised latent at trained step `start` down by `stride` to step 0, then to clean.

    The noise is drawn at exactly the first step evaluated: 500, 480, ..., 0 are 26 evaluations.
    """
    if not 0 < start < len(table) or stride < 1 or start % stride:
        raise ConfigError(
            f"expected a start below {len(table)} that is a multiple of the stride, "
            f"got {start} and {stride}"
        )
    steps = tuple(range(start, -1, -stride))
    return Way(steps, (*(float(table[t]) for t in steps), 1.0))


def way_from_end(stride: int, table: Sequence[float] | Table) -> Way:
    """From the last trained step down by `stride`, then to clean: the way of large images.

    The published code takes alpha-bar one step before the one that it tells the network, 1000,
    950, ...; here both are that one before: 999, 949, ..., 49.
    """
    length = len(table)
    if stride < 1 or length % stride:
        raise ConfigError(f"expected a stride that divides {length}, got {stride}")
    steps = tuple(range(length - 1, -1, -stride))
    return Way(steps, (*(float(table[t]) for t in steps), 1.0))
