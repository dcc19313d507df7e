"""The two ways of drawing a patch: from noise, and from the patch a level above."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.diffusion import solvers
from wsicodec.diffusion.trained_steps import Way, way_from_noise, way_from_step
from wsicodec.resample import double
from wsicodec.zoomldm.model import PublishedModel

Solver = Callable[[solvers.Estimate, Any, Way], Any]
Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
STEPS, SCALE = 50, 2.0  # of the published patches, with PLMS
START, STRIDE = 500, 20  # of 1000 trained steps: where a child begins, and how it goes on


def draw_patch(
    model: PublishedModel,
    window: Floats,
    level: int,
    noise: Floats,
    *,
    steps: int = STEPS,
    scale: float = SCALE,
    solver: Solver = solvers.plms,
) -> Pixels:
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
    drawn: Pixels = draw_patches(
        model, [window], level, noise[None], steps=steps, scale=scale, solver=solver
    )[0]
    return drawn


def draw_patches(
    model: PublishedModel,
    windows: Sequence[Floats],
    level: int,
    noise: Floats,
    *,
    steps: int = STEPS,
    scale: float = SCALE,
    solver: Solver = solvers.plms,
) -> Pixels:
    """Draw several patches (n, 256, 256, 3) of one level at once; see `draw_patch`."""
    way = way_from_noise(steps, model.table)
    estimate = model.estimate(model.contexts(windows, level), level, scale)
    return model.decode_all(solver(estimate, model.put_all(noise), way))


def draw_child(  # noqa: PLR0913, what is drawn by place, how it is drawn by keyword
    model: PublishedModel,
    window: Floats,
    level: int,
    quarter: Pixels,
    noise: Floats,
    *,
    scale: float = SCALE,
    solver: Solver = solvers.ddim,
    start: int = START,
    stride: int = STRIDE,
) -> Pixels:
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
    drawn: Pixels = draw_children(
        model,
        [window],
        level,
        [quarter],
        noise[None],
        scale=scale,
        solver=solver,
        start=start,
        stride=stride,
    )[0]
    return drawn


def draw_children(  # noqa: PLR0913, as `draw_child`
    model: PublishedModel,
    windows: Sequence[Floats],
    level: int,
    quarters: Sequence[Pixels],
    noise: Floats,
    *,
    scale: float = SCALE,
    solver: Solver = solvers.ddim,
    start: int = START,
    stride: int = STRIDE,
) -> Pixels:
    """Draw several patches (n, 256, 256, 3) of one level at once; see `draw_child`."""
    way = way_from_step(start, stride, model.table)
    clean = torch.cat([model.encode(enlarge(quarter)) for quarter in quarters])
    x = solvers.add_noise(clean, model.put_all(noise), way.alpha_bar[0])
    estimate = model.estimate(model.contexts(windows, level), level, scale)
    return model.decode_all(solver(estimate, x, way))


def enlarge(rgb: Pixels) -> Pixels:
    """Twice as many pixels (h, w, 3) each way, cubic."""
    grown = double(rgb.astype(np.float32))
    return np.clip(np.rint(grown), 0, 255).astype(np.uint8)
