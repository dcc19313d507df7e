"""From a parent's pixels and embeddings to a tile of pixels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.diffusion.noise import noise_field
from wsicodec.diffusion.sampler import sample
from wsicodec.diffusion.schedule import (
    FlowSchedule,
    LatentDiffusionSchedule,
    time_of_equal_noise,
)
from wsicodec.diffusion.windows import (
    HALO,
    WINDOW,
    conditioning_map,
    latent_region,
    lock_colour,
    tile_window,
)
from wsicodec.geometry import PATCH, Region
from wsicodec.models.networks import Conditions, Drawing, Floats, to_network
from wsicodec.resample import double

Pixels = NDArray[np.uint8]
Look = Callable[[Floats, NDArray[np.bool_], tuple[int, int], Region, int], Floats]
_PARENT_START = 0.501  # of ZoomLDM's thousand steps: index 500, where its decompression begins


@dataclass(frozen=True, slots=True)
class View:
    """What the networks of a family are shown of a slide around a tile."""

    halo: int = HALO  # pixels on every side
    look: Look = conditioning_map  # embeddings laid over a window, see there


OWN_VIEW = View()


@dataclass(frozen=True, slots=True)
class Window:
    """One window to draw; shapes are those of the default view."""

    level: int  # of the store
    ty: int
    tx: int
    magnification: int  # index, 0 for 20x
    parent: Pixels | None  # (WINDOW / 2, WINDOW / 2, 3) of the level above, or none above the top
    embeddings: Floats  # (d + 1, 10, 10) conditioning map


@dataclass(frozen=True, slots=True)
class Recipe:
    """How windows are drawn: equal for all pixels of a slide."""

    slide: str  # digest; keys the noise
    channels: int  # of the latent
    steps: int  # network evaluations per window
    start: str = "noise"  # or "parent": ZoomLDM's start from the parent's noised latent
    colours: str = "parent"  # above 16 pixels; or "own": whatever the networks draw


def draw_windows(networks: Drawing, recipe: Recipe, windows: list[Window]) -> list[Pixels]:
    """Draw the tiles of up to `networks.batch` windows of one slide.

    Returns:
        One (256, 256, 3) tile per window; halos are cut off.
    """
    return [_inner(whole) for whole in draw_whole(networks, recipe, windows)]


def draw_whole(networks: Drawing, recipe: Recipe, windows: list[Window]) -> list[Pixels]:
    """The same with their halos, which neighbours draw again: (WINDOW, WINDOW, 3) pixels each."""
    padded = windows + windows[:1] * (networks.batch - len(windows))
    conditions = _conditions(padded)
    schedule = FlowSchedule()
    noise = np.stack([_noise(recipe, window) for window in padded])
    begin, x = 1.0, noise
    if recipe.start == "parent" and all(w.parent is not None for w in padded):
        begin = time_of_equal_noise(schedule, LatentDiffusionSchedule(), _PARENT_START)
        latent = networks.encode(to_network(np.stack([_enlarged(w) for w in padded])))
        x = schedule.alpha(begin) * latent + schedule.sigma(begin) * noise
    latent = sample(
        lambda z, t, step: networks.denoise(z, t, step, conditions),
        x,
        schedule,
        schedule.times(recipe.steps, begin),
    )
    pixels = networks.render(np.asarray(latent, np.float32), conditions)
    return [_finish(recipe, drawn, window) for drawn, window in zip(pixels, windows, strict=False)]


def blank_tile(parent: Pixels | None, background: tuple[int, int, int], halo: int = HALO) -> Pixels:
    """A tile without tissue: the level above enlarged, or glass where there is none above."""
    if parent is None:
        return np.full((PATCH, PATCH, 3), background, np.uint8)
    return _inner(_to_bytes(double(parent.astype(np.float32))), halo)


def _conditions(windows: list[Window]) -> Conditions:
    empty = np.zeros((3, WINDOW // 2, WINDOW // 2), np.float32)
    return Conditions(
        np.stack([empty if w.parent is None else to_network(w.parent[None])[0] for w in windows]),
        np.array([w.parent is not None for w in windows], np.float32),
        np.stack([w.embeddings for w in windows]),
        np.array([w.magnification for w in windows], np.int64),
    )


def _noise(recipe: Recipe, window: Window) -> Floats:
    region = latent_region(tile_window(window.ty, window.tx))
    return noise_field(recipe.slide, window.level, region, recipe.channels)


def _enlarged(window: Window) -> Pixels:
    if window.parent is None:
        raise TypeError("a window without a parent cannot be enlarged")
    return _to_bytes(double(window.parent.astype(np.float32)))


def _finish(recipe: Recipe, drawn: Floats, window: Window) -> Pixels:
    pixels = (drawn.transpose(1, 2, 0) + np.float32(1)) * np.float32(127.5)
    if window.parent is not None and recipe.colours == "parent":
        # Clipped before, not only after: what highlights lose would darken their blocks.
        pixels = lock_colour(np.clip(pixels, 0, 255), window.parent.astype(np.float32))
    return _to_bytes(pixels)


def _inner(window: Pixels, halo: int = HALO) -> Pixels:
    return window[halo : halo + PATCH, halo : halo + PATCH]


def _to_bytes(pixels: Floats) -> Pixels:
    rounded: Pixels = np.clip(np.floor(pixels + np.float32(0.5)), 0, 255).astype(np.uint8)
    return rounded


Draw = Callable[[list[Window]], list[Pixels]]
