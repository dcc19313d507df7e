"""Super-resolution by inverting the condition: which embeddings would have drawn this picture?

Embeddings under a coarse picture are fitted so that the denoiser, told of them, removes noise from
the picture's latent best; then its patches of 20x are drawn jointly from them under the picture
(Yellapragada, Graikos et al. 2025, as their published code has it).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsicodec.diffusion import solvers
from wsicodec.errors import ConfigError
from wsicodec.models.published.grids import SIDE
from wsicodec.zoomldm.joint import Family, Floats, JointRecipe, NoiseSource, Pixels, sample_jointly
from wsicodec.zoomldm.model import PublishedModel

SUPER_RESOLUTION = JointRecipe(rounds=5)


@dataclass(frozen=True, slots=True)
class InversionRecipe:
    """Settings of an inversion; the defaults are the published ones, which suit some data only."""

    iterations: int = 200
    rate: float = 0.1  # of Adam
    first: int = 950  # trained step that the noise falls from
    last: int = 50
    pull: float = 0.05  # weight of the embeddings' likeness to each other


def invert_condition(
    model: PublishedModel,
    picture: Pixels,
    level: int,
    noise: NoiseSource,
    recipe: InversionRecipe | None = None,
    seed: int = 0,
) -> Floats:
    """Embeddings (2^k, 2^k, d) under a picture (256, 256, 3) of level k, from the picture alone.

    Minimises  mean[sqrt(ab) (1 - ab) (eps_hat - eps)^2] - pull * mean pairwise cosine  by Adam,
    t falling evenly, without guidance.

    Args:
        model: the networks.
        picture: real pixels at the level's resolution.
        level: k, from 1 to 3: grids finer than 8 x 8 are pooled and cannot be told apart.
        noise: item 0 at steps 0, 1 and on is the noise of every iteration.
        recipe: the settings; None takes the published ones.
        seed: of the embeddings that it starts from.

    Raises:
        ConfigError: another level.
    """
    recipe = recipe or InversionRecipe()
    side = 1 << level
    if not 1 <= level <= SIDE.bit_length() - 1:
        raise ConfigError(f"expected a level from 1 to 3 to invert, got {level}")
    clean = model.encode(picture).clone()
    width = int(model.summarizer.config.embedding_width)  # type: ignore[union-attr, arg-type]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(1, width, side, side, generator=generator)
    grid = start.to(model.device).requires_grad_()
    optimizer = torch.optim.Adam([grid], lr=recipe.rate)
    with torch.enable_grad():
        for i, t in enumerate(np.linspace(recipe.first, recipe.last, recipe.iterations)):
            eps = model.put(noise(0, i))
            loss = _loss(model, grid, level, clean, eps, round(t), recipe.pull)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    found: Floats = grid.detach()[0].permute(1, 2, 0).contiguous().numpy(force=True)
    return found


def super_resolve(
    model: PublishedModel,
    picture: Pixels,
    level: int,
    noise: NoiseSource,
    inversion: InversionRecipe | None = None,
    sampling: JointRecipe = SUPER_RESOLUTION,
) -> Family:
    """The patches of 20x under a real picture of level k, 2^k times as many pixels each way.

    What is finer than the picture is invented. See `invert_condition` and `sample_jointly`.
    """
    grid = invert_condition(model, picture, level, noise, inversion)
    children = [grid[y : y + 1, x : x + 1] for y, x in np.ndindex(grid.shape[:2])]
    return sample_jointly(model, picture, children, level, noise, sampling)


def _loss(
    model: PublishedModel,
    grid: Tensor,
    level: int,
    clean: Tensor,
    eps: Tensor,
    t: int,
    pull: float,
) -> Tensor:
    kept = float(model.table[t])
    context = model.summarize(grid, level)
    error = model.noise(solvers.add_noise(clean, eps, kept), t, context, level) - eps
    vectors = F.normalize(grid.flatten(2)[0], dim=0)
    likeness = (vectors.T @ vectors).mean()
    loss: Tensor = kept**0.5 * (1 - kept) * error.square().mean() - pull * likeness
    return loss
