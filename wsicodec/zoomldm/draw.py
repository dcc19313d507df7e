"""The two ways of drawing a patch: from noise, and from the patch a level above."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from wsicodec.diffusion import solvers
from wsicodec.diffusion.trained_steps import Way, way_from_noise, way_from_step
from wsicodec.zoomldm.model import PublishedModel

Solver = Callable[[solvers.Estimate, Any, Way], Any]
STEPS, SCALE = 50, 2.0  # of the published patches, with PLMS
START, STRIDE = 500, 20  # of 1000 trained steps: where a child begins, and how it goes on


def draw_patch(
    model: PublishedModel,
    window: NDArray[np.float32],
    level: int,
    noise: NDArray[np.float32],
    *,
    steps: int = STEPS,
    scale: float = SCALE,
    solver: Solver = solvers.plms,
) -> NDArray[np.uint8]:
    """Draw a patch from noise (Yellapragada, Graikos et al. 2025).

    Args:
        model: the networks.
        window: embeddings (2^k, 2^k, d) under the patch, see `window_grid`.
        level: k, 0 for 20x to 7.
        noise: standard normal deviates of `model.latent_shape`.
        steps: a divisor of the number of trained steps.
        scale: of guidance, s in eps_u + s (eps_c - eps_u); 1 is without.
        solver: one of `wsicodec.diffusion.solvers`.

    Returns:
        RGB pixels (256, 256, 3).
    """
    way = way_from_noise(steps, model.table)
    estimate = model.estimate(model.context(window, level), level, scale)
    return model.decode(solver(estimate, model.put(noise), way))


def draw_child(  # noqa: PLR0913, what is drawn by place, how it is drawn by keyword
    model: PublishedModel,
    window: NDArray[np.float32],
    level: int,
    quarter: NDArray[np.uint8],
    noise: NDArray[np.float32],
    *,
    scale: float = SCALE,
    solver: Solver = solvers.ddim,
    start: int = START,
    stride: int = STRIDE,
) -> NDArray[np.uint8]:
    """Draw a patch from the quarter of its parent that it covers, as the seed paper does.

    The quarter is enlarged in pixels, encoded, noised to step `start` and denoised from there.

    Args:
        model: the networks.
        window: embeddings (2^k, 2^k, d) under the patch.
        level: k of the patch; the parent is of level k + 1.
        quarter: (128, 128, 3) RGB, see `quadrant`.
        noise: standard normal deviates of `model.latent_shape`.
        scale: of guidance.
        solver: one of `wsicodec.diffusion.solvers`.
        start: trained step to begin at, a multiple of the stride.
        stride: between the steps that are evaluated.

    Returns:
        RGB pixels (256, 256, 3).
    """
    way = way_from_step(start, stride, model.table)
    clean = model.encode(enlarge(quarter))
    x = solvers.add_noise(clean, model.put(noise), way.alpha_bar[0])
    estimate = model.estimate(model.context(window, level), level, scale)
    return model.decode(solver(estimate, x, way))


def enlarge(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Twice as many pixels (h, w, 3) each way, bicubic."""
    pixels = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))[None]
    large = F.interpolate(pixels, scale_factor=2.0, mode="bicubic", align_corners=False)
    grown: NDArray[np.float32] = large[0].permute(1, 2, 0).numpy()
    return np.clip(np.rint(grown), 0, 255).astype(np.uint8)
