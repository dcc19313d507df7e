"""A mosaic of patches without seams: noised again and drawn in windows that overlap.

Windows of one patch's size slide over the mosaic's latent; each is told the embedding between its
neighbours', and what they expect the clean latent to be is averaged (Bar-Tal et al. 2023), as the
published large images end.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wsicodec.diffusion import solvers
from wsicodec.diffusion.trained_steps import way_from_step
from wsicodec.errors import ConfigError
from wsicodec.zoomldm.joint import Floats, Pixels, ancestral_step, as_tensor
from wsicodec.zoomldm.model import PublishedModel, to_bytes

SPREAD = 0.8  # of the Gaussian that blends decoded windows, in half windows


@dataclass(frozen=True, slots=True)
class SmoothingRecipe:
    """Settings of a smoothing pass; the defaults are the published ones."""

    start: int = 300  # trained step that the mosaic is noised to
    stride: int = 50  # trained steps from one evaluation to the next
    shift: int = 16  # latent cells from one window to the next
    scale: float = 3.0  # of guidance, s in eps_u + s (eps_c - eps_u)


@torch.inference_mode()
def smooth_mosaic(
    model: PublishedModel,
    mosaic: Pixels,
    grid: Floats,
    noise: Floats,
    recipe: SmoothingRecipe | None = None,
) -> Pixels:
    """Draw a mosaic of 20x patches again from a little noise, without its seams.

    Args:
        model: the networks.
        mosaic: (256 rows, 256 columns, 3) of patches side by side.
        grid: their embeddings (rows, columns, d).
        noise: standard deviates (evaluations + 1, c, h, w) of the mosaic's latent, the start's
            first.
        recipe: the settings; None takes the published ones.

    Returns:
        Pixels of the same shape.

    Raises:
        ConfigError: shapes that do not fit each other.
    """
    recipe = recipe or SmoothingRecipe()
    way = way_from_step(recipe.start, recipe.stride, model.table)
    clean = encode_mosaic(model, mosaic)
    wanted = (len(way.steps) + 1, *clean.shape[1:])
    if grid.shape[:2] != tuple(n // model.latent_shape[1] for n in clean.shape[2:]):
        raise ConfigError(f"expected an embedding for each patch of the mosaic, got {grid.shape}")
    if noise.shape != wanted:
        raise ConfigError(f"expected noise of shape {wanted}, got {noise.shape}")
    fresh = model.put_all(noise)
    x = solvers.add_noise(clean, fresh[:1], way.alpha_bar[0])
    steps = zip(way.steps, way.alpha_bar[:-1], way.alpha_bar[1:], strict=True)
    for i, (t, here, there) in enumerate(steps):
        expected_clean = _clean(model, x, grid, t, here, recipe)
        eps = (x - here**0.5 * expected_clean) / (1 - here) ** 0.5
        x = ancestral_step(x, eps, here, there, fresh[i + 1 : i + 2])
    drawn: Pixels = to_bytes(decode_mosaic(model, x, recipe.shift))[0]
    return drawn


def encode_mosaic(model: PublishedModel, mosaic: Pixels) -> Tensor:
    """The latent (1, c, h, w) of a mosaic, patch by patch."""
    side = model.latent_shape[1] * model.autoencoder.factor
    height, width = mosaic.shape[:2]
    if height % side or width % side or not height or not width:
        raise ConfigError(f"expected a mosaic of patches of {side} px, got {height} x {width}")
    rows = [
        torch.cat(
            [
                model.autoencoder.encode(as_tensor(model, mosaic[y : y + side, x : x + side]))
                for x in range(0, width, side)
            ],
            3,
        )
        for y in range(0, height, side)
    ]
    return torch.cat(rows, 2)


def decode_mosaic(model: PublishedModel, latent: Tensor, shift: int) -> Tensor:
    """Pixels (1, 3, fh, fw) of a latent of any size, windows blended by a Gaussian."""
    side, factor = model.latent_shape[1], model.autoencoder.factor
    place = torch.linspace(-1, 1, side * factor, device=latent.device)
    bell = torch.exp(-(place.square()[:, None] + place.square()) / SPREAD**2)
    shape = (1, 3, latent.shape[2] * factor, latent.shape[3] * factor)
    total, weight = latent.new_zeros(shape), latent.new_zeros(1, 1, *shape[2:])
    for y, x in windows(latent.shape[2], latent.shape[3], side, shift):
        pixels = model.pixels(latent[:, :, y : y + side, x : x + side])
        rows = slice(y * factor, (y + side) * factor)
        columns = slice(x * factor, (x + side) * factor)
        total[..., rows, columns] += bell * pixels
        weight[..., rows, columns] += bell
    return total / weight


def windows(height: int, width: int, side: int, shift: int) -> Iterator[tuple[int, int]]:
    """Corners y, x of windows over a latent, `shift` apart, the last ones at the border."""
    tops, lefts = (sorted({*range(0, n - side, shift), n - side}) for n in (height, width))
    return ((y, x) for y in tops for x in lefts)


def between(grid: Floats, y: float, x: float) -> Floats:
    """The embedding (1, 1, d) at a fractional cell: along great circles (Shoemake 1985).

    Columns first, then rows; beyond the last cell it is held.
    """
    rows, columns = grid.shape[:2]
    top, left = min(int(y), rows - 1), min(int(x), columns - 1)
    below, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    upper = slerp(grid[top, left], grid[top, right], x - left)
    lower = slerp(grid[below, left], grid[below, right], x - left)
    return slerp(upper, lower, y - top)[None, None]


def slerp(a: Floats, b: Floats, share: float) -> Floats:
    """From a (share 0) to b (1) at an even turn, the length changing evenly."""
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = float(a @ b) / max(float(lengths[0] * lengths[1]), 1e-12)
    angle = float(np.arccos(np.clip(cosine, -1, 1)))
    if angle < 1e-3 or np.pi - angle < 1e-3:
        return np.asarray((1 - share) * a + share * b, np.float32)
    turned = np.sin((1 - share) * angle) * a / lengths[0] + np.sin(share * angle) * b / lengths[1]
    length = (1 - share) * lengths[0] + share * lengths[1]
    return np.asarray(turned / np.sin(angle) * length, np.float32)


def _clean(
    model: PublishedModel,
    x: Tensor,
    grid: Floats,
    t: int,
    here: float,
    recipe: SmoothingRecipe,
) -> Tensor:
    """What the windows expect the clean latent to be, averaged where they overlap."""
    side = model.latent_shape[1]
    total, weight = torch.zeros_like(x), torch.zeros_like(x[:, :1])
    for top, left in windows(x.shape[2], x.shape[3], side, recipe.shift):
        context = model.context(between(grid, top / side, left / side), 0)
        part = x[:, :, top : top + side, left : left + side]
        eps = model.estimate(context, 0, recipe.scale)(part, t)
        total[:, :, top : top + side, left : left + side] += solvers.clean_from_noise(
            part, eps, here
        )
        weight[:, :, top : top + side, left : left + side] += 1
    return total / weight
