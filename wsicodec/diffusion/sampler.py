"""The deterministic loop from a noisy latent to a clean one."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol

from wsicodec.diffusion.schedule import Schedule

Latent = Any  # a NumPy array or a torch tensor: only arithmetic is asked of it


class Denoiser(Protocol):
    """Estimates the clean latent."""

    def __call__(self, x: Latent, t: float, step: float) -> Latent:
        """The clean latent expected behind x at time t, for a solver about to move by `step`."""


def sample(denoiser: Denoiser, x: Latent, schedule: Schedule, times: Sequence[float]) -> Latent:
    """Follow the probability-flow ODE with DDIM steps (Song, Meng, Ermon 2021, eq. 12, eta = 0).

        x_s = alpha_s z_hat + sigma_s (x_t - alpha_t z_hat) / sigma_t

    With the rectified-flow law this is Euler's method on the flow.

    Args:
        denoiser: the network behind its parameterisation.
        x: the noisy latent at times[0].
        schedule: the noise law.
        times: decreasing; the last one is where to stop, 0 for a clean latent.
    """
    for t, s in pairwise(times):
        clean = denoiser(x, t, t - s)
        ratio = schedule.sigma(s) / schedule.sigma(t)
        x = ratio * x + (schedule.alpha(s) - ratio * schedule.alpha(t)) * clean
    return x


def clean_from_noise_estimate(x: Latent, eps: Latent, schedule: Schedule, t: float) -> Latent:
    """The clean latent that an epsilon-prediction network means (Ho, Jain, Abbeel 2020, eq. 15)."""
    return (x - schedule.sigma(t) * eps) / schedule.alpha(t)
