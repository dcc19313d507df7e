"""What may be done to tissue without making it something else; all draws from a generator."""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

# Optical densities of haematoxylin, eosin and the residual in R, G, B; Ruifrok & Johnston 2001.
STAINS = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])


@dataclass(frozen=True, slots=True)
class AugmentConfig:
    """How far samples are bent; zero switches a bend off."""

    stain_gain: float = 0.2  # deviation of the log gain of each stain's concentration
    stain_bias: float = 0.03  # deviation of what is added to each concentration, optical density
    channel_gain: float = 0.05  # deviation of the log gain of each channel's optical density
    scale: float = 0.2  # largest log2 of the zoom
    scale_share: float = 0.3  # share of samples zoomed
    jpeg_share: float = 0.2  # share of samples passed through JPEG
    jpeg_quality: tuple[int, int] = (40, 95)
    plain_share: float = 0.2  # share of samples whose colours stay as they are


@dataclass(frozen=True, slots=True)
class StainBend:
    """An affine map of optical density: row vectors times `matrix` plus `bias`."""

    matrix: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def draw(cls, rng: np.random.Generator, config: AugmentConfig) -> "StainBend":
        """Gains and biases in the space of stain concentrations, then gains of channels."""
        gain = np.exp(rng.normal(0, config.stain_gain, 3) * (1, 1, 0.5))
        bias = rng.normal(0, config.stain_bias, 3) * (1, 1, 0.5)
        channel = np.exp(rng.normal(0, config.channel_gain, 3))
        matrix = np.linalg.inv(STAINS) @ np.diag(gain) @ STAINS @ np.diag(channel)
        return cls(matrix.astype(np.float32), ((bias @ STAINS) * channel).astype(np.float32))

    def apply(self, rgb: Pixels) -> Pixels:
        """Bend (..., 3) pixels; white moves by the bias only where there is stain."""
        density = _DENSITY[rgb]
        # Glass holds no stain: fade the bias out below 0.1 so that background stays as it is.
        stained = np.minimum(density.mean(-1, keepdims=True) * 10, 1)
        bent = density @ self.matrix + self.bias * stained
        light = np.exp(-bent) * 255 + 0.5
        return np.clip(light, 0, 255).astype(np.uint8)


_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 0.5) / 255.5)


def turn(rgb: NDArray[np.generic], code: int) -> NDArray[np.generic]:
    """One of the eight flips and quarter turns of (h, w, ...) arrays, `code` in 0..7."""
    turned = np.rot90(rgb, code & 3, axes=(0, 1))
    return turned[:, ::-1] if code & 4 else turned


def draw_bend(rng: np.random.Generator, config: AugmentConfig) -> StainBend | None:
    """A stain bend, or None for the share that stays plain; consumes a fixed count of draws."""
    bend = StainBend.draw(rng, config)
    return None if rng.random() < config.plain_share else bend


def draw_zoom(rng: np.random.Generator, config: AugmentConfig) -> float:
    """The factor by which a crop must be larger (above 1) or smaller than what is wanted."""
    zoomed, amount = rng.random() < config.scale_share, rng.uniform(-config.scale, config.scale)
    return float(2.0**amount) if zoomed else 1.0


def shrink(rgb: Pixels, zoom: float) -> Pixels:
    """A picture with its sides divided by `zoom`, or by its inverse if that is below 1.

    A picture may not be enlarged to stand for another scale: its finest octave would be empty.
    """
    factor = min(zoom, 1 / zoom)
    if factor == 1:
        return rgb
    height, width = (max(1, round(side * factor)) for side in rgb.shape[:2])
    smaller = Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smaller)


def resize(rgb: Pixels, side: int) -> Pixels:
    """Square pixels resampled to `side` (bicubic, antialiased)."""
    if rgb.shape[:2] == (side, side):
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC))


def draw_jpeg(rng: np.random.Generator, config: AugmentConfig) -> int | None:
    """A JPEG quality, or None for the share that is not coded; consumes a fixed count of draws."""
    coded = rng.random() < config.jpeg_share
    quality = int(rng.integers(config.jpeg_quality[0], config.jpeg_quality[1] + 1))
    return quality if coded else None


def jpeg_again(rgb: Pixels, quality: int | None) -> Pixels:
    """Pixels after a JPEG round trip, as a scanner or a publisher may have done; None does none."""
    if quality is None:
        return rgb
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))
