"""Parents as they will really be: what the codec hands to a child is not the true level above."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.models.sketch import SMOOTH
from wsicodec.resample import double
from wsicodec.train.data import Pixels, Window
from wsicodec.train.streamed import StreamedVariant
from wsicodec.train.variants import ANCHOR, Variant

Floats = NDArray[np.float32]
EDGE = 4  # pixels beyond a crop that enlarging needs
SOFT = 0.5  # pixels; blur of a sketch's grain


@dataclass(frozen=True, slots=True)
class ParentConfig:
    """Shares of the ways in which parents are spoilt."""

    none: float = 0.1  # of samples without a parent, at generated levels
    none_coarse: float = 0.3  # the same above the anchor, where chains start
    plain: float = 0.1  # true pixels
    stored: float = 0.15  # of level-1 parents as an anchor of that level shows them
    drawn: float = 0.6  # of level-1 parents as an earlier denoiser drew them, where one did
    drawn_anchor: float = 0.1  # the same of level-2 parents, else as the anchor has them
    blend: float = 0.9  # of level-1 parents made of the anchor and the truth, where none is drawn
    sketched: float = 0.5  # of parents above the anchor's level, as a sketch would show them
    grain: float = 14.0  # largest deviation of a sketch's grain, of 255
    blur: float = 0.8  # largest deviation, pixels
    noise: float = 4.0  # largest deviation of added noise, of 255


def draw_parent(
    rng: np.random.Generator,
    variant: Variant | StreamedVariant,
    window: Window,
    config: ParentConfig,
) -> Floats | None:
    """Pixels (side / 2, side / 2, 3), 0 to 255, of the level above a window, or None.

    Consumes the same draws whatever comes out, so that samples stay a function of their index.
    """
    missing, plain, mixed, amount, drawn = rng.random(5)
    strength = rng.random(2)
    level, side = window.level + 1, window.side // 2
    y, x = window.y // 2, window.x // 2
    if missing < (config.none if window.level < ANCHOR else config.none_coarse):
        return None
    true = variant.crop(level, y, x, side).astype(np.float32)
    if plain < config.plain:
        return true
    read = _as_read(variant, (level, y, x, side), drawn, config)
    if read is not None:
        return read.astype(np.float32)
    if level > ANCHOR and drawn < config.sketched:
        return sketched(rng, true, strength[0] * config.grain)
    if level == ANCHOR - 1:
        coarse = _enlarged(variant, y, x, side) if mixed < config.blend else None
        if coarse is not None:
            true += (coarse - true) * np.float32(amount)
    return _spoil(rng, true, strength, config)


def _as_read(
    variant: Variant | StreamedVariant,
    square: tuple[int, int, int, int],
    chance: float,
    config: ParentConfig,
) -> Pixels | None:
    """A parent as a reader has it, once drawn or out of its codec; None where it is neither.

    square: level, y, x, side
    chance: uniform in [0, 1)
    """
    level = square[0]
    if chance < (config.drawn_anchor if level == ANCHOR else config.drawn):
        drawn = variant.drawn_at(*square)
        if drawn is not None:
            return drawn
    if level == ANCHOR or chance >= 1 - config.stored:
        return variant.coded_at(*square)
    return None


def _enlarged(variant: Variant | StreamedVariant, y: int, x: int, side: int) -> Floats | None:
    part = variant.coded_at(ANCHOR, y // 2 - EDGE, x // 2 - EDGE, side // 2 + 2 * EDGE)
    if part is None:
        return None
    return double(part.astype(np.float32))[2 * EDGE : -2 * EDGE, 2 * EDGE : -2 * EDGE]


def sketched(rng: np.random.Generator, parent: Floats, grain: float) -> Floats:
    """A parent with the detail of a sketch of embeddings: colours of coarse squares, and grain.

    A slide without a stored picture starts from one, see `models.sketch`.
    """
    side = parent.shape[0] >> SMOOTH
    colours = parent.reshape(side, 1 << SMOOTH, side, 1 << SMOOTH, 3).mean((1, 3))
    for _ in range(SMOOTH):
        colours = double(colours)
    noise = _blurred(rng.standard_normal((*parent.shape[:2], 1), np.float32), SOFT)
    return np.clip(colours + noise / noise.std() * np.float32(grain), 0, 255)


def _spoil(
    rng: np.random.Generator, parent: Floats, strength: NDArray[np.float64], config: ParentConfig
) -> Floats:
    blur, noise = strength**2 * (config.blur, config.noise)
    if blur > 0.2:
        parent = _blurred(parent, blur)
    grain = rng.standard_normal(parent.shape, np.float32)
    return np.clip(parent + grain * np.float32(noise), 0, 255)


def _blurred(image: Floats, deviation: float) -> Floats:
    """Gaussian blur over five pixels with repeated borders; `deviation` in pixels, below 1."""
    taps = np.exp(-0.5 * (np.arange(-2, 3) / deviation) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    for axis in (0, 1):
        reach = [(2, 2) if a == axis else (0, 0) for a in range(3)]
        padded = np.moveaxis(np.pad(image, reach, mode="edge"), axis, 0)
        count = image.shape[axis]
        blurred = sum(w * padded[i : i + count] for i, w in enumerate(taps))
        image = np.moveaxis(np.asarray(blurred, np.float32), 0, axis)
    return image
