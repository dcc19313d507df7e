"""What a denoiser should say so that a few large steps land where many small ones would.

D(x, t, d) estimates the clean latent for a solver about to move from t to s = t - d, which lands at

    x_s = (s / t) x + (d / t) D(x, t, d),        so that        u(x, t, d) = (x - D(x, t, d)) / t

is the mean velocity of the step. Every function here gives the clean latent that D is asked for,
worked out with an `estimate` that changes more slowly: no gradient is taken through it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Estimate = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Latents x (n, c, h, w), times t (n,) and steps d (n,) to estimates of the clean latents."""

HUBER = 0.00054  # root mean square error at which the loss turns from square to absolute
BACK = 0.01  # of time, over which velocities are differenced: rounding there is 1e-5 of them


@torch.no_grad()
def shortcut_target(estimate: Estimate, x: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """What one step must say to land where two of half its size do (Frans et al. 2024).

    The mean of the two velocities, written for clean latents: with D1 at t and D2 at t - d / 2,
    D = ((t - d) D1 + t D2) / (2 t - d).

    Args:
        estimate: of the clean latent, for steps of d / 2.
        x: latents (n, c, h, w) at t.
        t: (n,) times.
        step: (n,) sizes d of the whole step, up to t.
    """
    half = step / 2
    first = estimate(x, t, half)
    middle = moved(x, first, t, half)
    second = estimate(middle, t - half, half)
    near, far = (v[:, None, None, None] for v in (t - step, t))
    return (near * first + far * second) / (near + far)


@torch.no_grad()
def consistency_target(
    estimate: Estimate, clean: Tensor, noise: Tensor, t: Tensor, step: Tensor, gap: float
) -> Tensor:
    """What is said a little earlier on the same line from noise to data (Song et al. 2023, alg. 3).

    No teacher: both points are made of one clean latent and one noise, and at t = 0 the estimate is
    the latent itself (for straight flows: Yang et al. 2024, consistency flow matching).

    Args:
        estimate: of where the flow ends, whatever the step.
        clean: latents (n, c, h, w).
        noise: that they are mixed with.
        t: (n,) times.
        step: (n,) steps that the estimate is told of.
        gap: how much earlier; the estimate at t = `gap` and below is asked for the latent itself.
    """
    earlier = (t - gap).clamp_min(0)
    return estimate(between(clean, noise, earlier), earlier, torch.minimum(step, earlier))


@torch.no_grad()
def mean_flow_target(
    estimate: Estimate, clean: Tensor, noise: Tensor, t: Tensor, step: Tensor
) -> Tensor:
    """What gives the mean velocity of a step: u = v - d du/dt (Geng et al. 2025).

    For clean latents D = z + t d du/dt. The derivative is taken along the line, where the step
    ends, by a difference of two estimates.

    Args:
        estimate: of the clean latent.
        clean: latents z (n, c, h, w).
        noise: that they are mixed with; the velocity v is noise - z.
        t: (n,) times.
        step: (n,) sizes d, more than BACK and up to t.
    """
    now, before = (
        _velocity(estimate, between(clean, noise, t - back), t - back, step - back)
        for back in (0.0, BACK)
    )
    return clean + (t * step)[:, None, None, None] * (now - before) / BACK


def pseudo_huber(squares: Tensor) -> Tensor:
    """Mean error of samples, each the root of its mean square (Song & Dhariwal 2023).

    Targets that a network sets itself are sometimes wild; their pull is bounded here.

    squares: (n,) mean squared errors.
    """
    return (squares + HUBER**2).sqrt().mean() - HUBER


def between(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Latents at times t (n,) of a rectified flow."""
    time = t[:, None, None, None]
    return (1 - time) * clean + time * noise


def moved(x: Tensor, clean: Tensor, t: Tensor, step: Tensor) -> Tensor:
    """Where a step (n,) from t (n,) lands, given the estimate of the clean latent."""
    share = (step / t)[:, None, None, None]
    return (1 - share) * x + share * clean


def _velocity(estimate: Estimate, x: Tensor, t: Tensor, step: Tensor) -> Tensor:
    return (x - estimate(x, t, step)) / t[:, None, None, None]
