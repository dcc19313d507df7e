"""Solvers for networks that estimate noise at trained steps: pure functions of latent and way.

Each takes `estimate(x, t)`, the noise expected in x at trained step t (guidance already mixed in),
the noisy latent at the way's first step, and gives the latent where the way ends.
"""

import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from wsicodec.diffusion.trained_steps import Way
from wsicodec.errors import ConfigError

Latent = Any  # a NumPy array or a torch tensor: only arithmetic is asked of it
Estimate = Callable[[Latent, int], Latent]

# Adams-Bashforth: what the newest estimate and the ones before it weigh, by how many there are.
_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def clean_from_noise(x: Latent, eps: Latent, alpha_bar: float) -> Latent:
    """The clean latent behind x if its noise is eps (Ho, Jain, Abbeel 2020, eq. 15)."""
    return (x - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)


def add_noise(clean: Latent, eps: Latent, alpha_bar: float) -> Latent:
    """The noisy latent at a level (Ho, Jain, Abbeel 2020, eq. 4)."""
    return math.sqrt(alpha_bar) * clean + math.sqrt(1 - alpha_bar) * eps


def posterior_variance(here: float, there: float) -> float:
    """Variance of the noise that a step of eta = 1 adds (Song, Meng, Ermon 2021, eq. 16).

    Args:
        here: alpha-bar of the latent at hand.
        there: alpha-bar where the step leads.
    """
    return (1 - there) / (1 - here) * (1 - here / there)


def ddim_step(
    x: Latent,
    eps: Latent,
    here: float,
    there: float,
    variance: float = 0.0,
    fresh: Latent = 0.0,
) -> Latent:
    """One step from alpha-bar `here` to `there` (Song, Meng, Ermon 2021, eq. 12).

    `variance` of `fresh` standard noise is added, and the estimated noise shrinks by as much.
    """
    clean = clean_from_noise(x, eps, here)
    kept = math.sqrt(max(0.0, 1 - there - variance))
    return math.sqrt(there) * clean + kept * eps + math.sqrt(variance) * fresh


def ddim(
    estimate: Estimate,
    x: Latent,
    way: Way,
    eta: float = 0.0,
    fresh: Callable[[int], Latent] | None = None,
) -> Latent:
    """DDIM (Song, Meng, Ermon 2021): one evaluation a step, first order, deterministic at eta 0.

    Args:
        estimate: the noise in a latent at a step.
        x: the latent at the first step.
        way: where to evaluate.
        eta: share of the posterior's deviation that is drawn anew; 1 is DDPM's.
        fresh: standard noise for the step evaluated at t; needed if eta is not 0.
    """
    if eta and fresh is None:
        raise ConfigError(f"eta = {eta:g} draws noise anew: expected a source of it, got none")
    for t, (here, there) in zip(way.steps, pairwise(way.alpha_bar), strict=True):
        variance = eta**2 * posterior_variance(here, there)
        noise = fresh(t) if eta and fresh is not None else 0.0
        x = ddim_step(x, estimate(x, t), here, there, variance, noise)
    return x


def plms(estimate: Estimate, x: Latent, way: Way) -> Latent:
    """PLMS (Liu, Ren, Lin, Zhao 2022) as latent diffusion has it: one evaluation more than steps.

    The first step averages the estimates at its two ends (pseudo improved Euler); later ones
    extrapolate by Adams and Bashforth over as many as there are, four at most.
    """
    seen: deque[Latent] = deque(maxlen=len(_BASHFORTH))  # newest first
    for i, (t, (here, there)) in enumerate(zip(way.steps, pairwise(way.alpha_bar), strict=True)):
        eps = estimate(x, t)
        seen.appendleft(eps)
        if i == 0:
            ahead = way.steps[min(1, len(way.steps) - 1)]
            mixed = (eps + estimate(ddim_step(x, eps, here, there), ahead)) / 2
        else:
            weights = _BASHFORTH[len(seen) - 1]
            mixed = sum(w * e for w, e in zip(weights, seen, strict=True))
        x = ddim_step(x, mixed, here, there)
    return x


def dpm_solver_2m(estimate: Estimate, x: Latent, way: Way) -> Latent:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): one evaluation a step, second order.

        x_s = sigma_s / sigma_t x_t - alpha_s (exp(-h) - 1) ((1 + 1 / 2r) z_t - 1 / 2r z_before)

    with h the step and r the step before over it, both in lambda = log(alpha / sigma). The first
    step, and one that leads to no noise at all, where lambda is infinite, are of first order.
    """
    before: tuple[Latent, float] | None = None  # clean estimate, step in lambda
    for t, (here, there) in zip(way.steps, pairwise(way.alpha_bar), strict=True):
        clean = clean_from_noise(x, estimate(x, t), here)
        if there >= 1:
            return clean
        step = _log_snr(there) - _log_snr(here)
        mixed = clean
        if before is not None:
            share = step / (2 * before[1])
            mixed = (1 + share) * clean - share * before[0]
        ratio = math.sqrt((1 - there) / (1 - here))
        x = ratio * x - math.sqrt(there) * math.expm1(-step) * mixed
        before = clean, step
    return x


def _log_snr(alpha_bar: float) -> float:
    return 0.5 * math.log(alpha_bar / (1 - alpha_bar))
