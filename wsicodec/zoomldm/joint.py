"""Large images: patches of 20x drawn together with the coarse patch that they make up.

A coarse patch g of level k, reduced from its 4^k children x_i, is a constraint on them:
D(decode(x_i)) = g's tile i, with D the reduction by 2^k. At every step the children move along
J e, a finite difference of the denoiser in the direction e of the constraint's error, instead of
the J^T e of a gradient (Graikos et al. 2025, "inexact Newton"); forward passes only.

The step after that is DDPM's with variance b = beta (1 - ab_s) / (1 - ab_t), and the estimated
noise keeps sqrt(1 - ab_s - b), so that all of it has the trained variance 1 - ab_s. A published
notebook leaves the -b out and adds too much noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.diffusion import solvers
from wsicodec.diffusion.trained_steps import way_from_end
from wsicodec.errors import ConfigError
from wsicodec.zoomldm.model import PublishedModel, to_bytes

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Estimate = Callable[[Tensor, int], Tensor]
NoiseSource = Callable[[int, int], Floats]
"""Standard noise (c, h, w) of an item, 0 for the coarse patch and 1 and on for its children, for
the step evaluated at t; t = -1 is where the sampling begins."""


@dataclass(frozen=True, slots=True)
class JointRecipe:
    """Settings of joint sampling; the defaults are the published ones."""

    stride: int = 50  # trained steps from one evaluation to the next
    rounds: int = 10  # moves towards the constraint at every step
    length: float = 0.5  # of a move, in latents
    probe: float = 0.005  # step of the finite differences
    scale: float = 3.0  # of guidance, s in eps_u + s (eps_c - eps_u); published as weight 2
    batch: int = 16  # children a call


@dataclass(frozen=True, slots=True)
class Family:
    """A coarse patch and its children, as they came out."""

    coarse: Pixels  # (256, 256, 3)
    children: Pixels  # (n, 256, 256, 3), row-major

    @property
    def mosaic(self) -> Pixels:
        """The children side by side (256 * 2^k, 256 * 2^k, 3)."""
        side = round(len(self.children) ** 0.5)
        rows = self.children.reshape(side, side, *self.children.shape[1:])
        return np.ascontiguousarray(np.concatenate(np.concatenate(rows, 1), 1))


def numbered_noise(seed: int, shape: tuple[int, int, int]) -> NoiseSource:
    """Noise that follows from a seed, the item and the step."""

    def noise(item: int, t: int) -> Floats:
        generator = np.random.Generator(np.random.Philox(key=[seed, item * 2048 + t + 1]))
        return generator.standard_normal(shape, np.float32)

    return noise


@torch.inference_mode()
def sample_jointly(
    model: PublishedModel,
    coarse: Floats | Pixels,
    children: Sequence[Floats],
    level: int,
    noise: NoiseSource,
    recipe: JointRecipe | None = None,
) -> Family:
    """Draw all patches of 20x under a patch of level k, and that patch with them.

    Args:
        model: the networks.
        coarse: embeddings (2^k, 2^k, d) under the coarse patch, which is then drawn; or its
            pixels (256, 256, 3), which then stay as they are.
        children: embeddings (1, 1, d) of the 4^k children, row-major.
        level: k, from 1 on.
        noise: where all noise comes from.
        recipe: the settings; None takes the published ones.

    Returns:
        The patches.

    Raises:
        ConfigError: another number of children.
    """
    recipe = recipe or JointRecipe()
    if level < 1 or len(children) != 4**level:
        raise ConfigError(
            f"expected the {4 ** max(level, 1)} children of level 0 under a patch of level "
            f"{max(level, 1)}, got {len(children)} under level {level}"
        )
    way = way_from_end(recipe.stride, model.table)
    groups = [
        _Group(model, children[i : i + recipe.batch], i, noise, recipe)
        for i in range(0, len(children), recipe.batch)
    ]
    guide = _Guide(model, coarse, level, noise, recipe.scale)
    for t, here, there in zip(way.steps, way.alpha_bar[:-1], way.alpha_bar[1:], strict=True):
        tiles = cut(guide.advance(t, here, there), 1 << level)
        for group in groups:
            group.advance(t, here, there, tiles)
    drawn = np.concatenate([to_bytes(model.pixels(group.x)) for group in groups])
    return Family(guide.pixels(), drawn)


def cut(picture: Tensor, count: int) -> Tensor:
    """A picture (1, c, h, w) in count x count tiles (count^2, c, h / count, w / count)."""
    _, channels, height, width = picture.shape
    tiles = picture.reshape(channels, count, height // count, count, width // count)
    return tiles.permute(1, 3, 0, 2, 4).flatten(0, 1)


def resize(pixels: Tensor, side: int) -> Tensor:
    """Pixels (n, 3, h, h) at another size (n, 3, side, side): cubic, antialiased."""
    return F.interpolate(pixels, (side, side), mode="bicubic", antialias=True)


class _Guide:
    """The coarse patch: drawn along, or real."""

    def __init__(
        self,
        model: PublishedModel,
        coarse: Floats | Pixels,
        level: int,
        noise: NoiseSource,
        scale: float,
    ) -> None:
        self._model, self._noise = model, noise
        self._shown: Pixels | None = None
        if coarse.dtype == np.uint8:
            self._shown = np.asarray(coarse, np.uint8)
            self._real = as_tensor(model, self._shown)
            return
        context = model.context(np.asarray(coarse, np.float32), level)
        self._estimate = model.estimate(context, level, scale, exact=True)
        self._x = model.put(noise(0, -1))

    def advance(self, t: int, here: float, there: float) -> Tensor:
        """The clean picture (1, 3, h, w) expected at t; then moves to the next step."""
        if self._shown is not None:
            return self._real
        eps = self._estimate(self._x, t)
        clean = solvers.clean_from_noise(self._x, eps, here)
        fresh = self._model.put(self._noise(0, t))
        self._x = ancestral_step(self._x, eps, here, there, fresh)
        return self._model.pixels(clean).clamp(-1, 1)

    def pixels(self) -> Pixels:
        """The patch (256, 256, 3)."""
        return self._model.decode(self._x) if self._shown is None else self._shown


class _Group:
    """Children that go through the networks together."""

    def __init__(
        self,
        model: PublishedModel,
        windows: Sequence[Floats],
        first: int,
        noise: NoiseSource,
        recipe: JointRecipe,
    ) -> None:
        self._model, self._recipe, self._noise = model, recipe, noise
        self._items = range(1 + first, 1 + first + len(windows))
        # Differences of a five-thousandth are lost in a narrow type.
        context = model.contexts(windows, 0)
        self._estimate = model.estimate(context, 0, recipe.scale, exact=True)
        self.x = self._fresh(-1)

    def _fresh(self, t: int) -> Tensor:
        return self._model.put_all(np.stack([self._noise(item, t) for item in self._items]))

    def advance(self, t: int, here: float, there: float, tiles: Tensor) -> None:
        """Move towards the tiles of the coarse patch, then to the next step."""
        mine = tiles[self._items.start - 1 : self._items.stop - 1]
        for _ in range(self._recipe.rounds):
            self.x = self.x + self._recipe.length * self._towards(t, here, mine)
        eps = self._estimate(self.x, t)
        self.x = ancestral_step(self.x, eps, here, there, self._fresh(t))

    def _towards(self, t: int, here: float, tiles: Tensor) -> Tensor:
        """J e with a largest entry of 1, in the latents."""
        probe, autoencoder = self._recipe.probe, self._model.autoencoder
        clean = self._clean(self.x, t, here)
        pixels = self._model.pixels(clean)
        error = tiles - resize(pixels, tiles.shape[-1])
        direction = unit(resize(error, pixels.shape[-1]))
        # A second difference instead of the decoder's transpose.
        latent = autoencoder.encode(pixels + probe * direction) - autoencoder.encode(pixels)
        moved = self._clean(self.x + probe * unit(latent), t, here)
        return unit(moved - clean)

    def _clean(self, x: Tensor, t: int, here: float) -> Tensor:
        clean: Tensor = solvers.clean_from_noise(x, self._estimate(x, t), here)
        return clean


def ancestral_step(x: Tensor, eps: Tensor, here: float, there: float, fresh: Tensor) -> Tensor:
    """DDPM's step between any two levels: DDIM's with eta = 1, all noise of variance 1 - there."""
    variance = solvers.posterior_variance(here, there)
    moved: Tensor = solvers.ddim_step(x, eps, here, there, variance, fresh)
    return moved


def unit(values: Tensor) -> Tensor:
    """Every item of (n, ...) with a largest entry of 1; zeros stay."""
    largest = values.flatten(1).abs().amax(1).clamp_min(torch.finfo(values.dtype).tiny)
    return values / largest[:, None, None, None]


def as_tensor(model: PublishedModel, rgb: Pixels) -> Tensor:
    """Pixels (h, w, 3) in bytes as (1, 3, h, w) in [-1, 1] where the networks are."""
    pixels = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))[None]
    return pixels.to(model.device) / 127.5 - 1
