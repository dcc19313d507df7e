"""Known degradations of tissue, by strength: what every measure here must notice.

Pictures are (h, w, 3) uint8. Nothing here changes its input.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.resample import box_reduce

Pixels = NDArray[np.uint8]


def to_bytes(values: NDArray[np.floating]) -> Pixels:
    """Values on the scale 0 to 255, rounded half up and clipped."""
    return np.asarray(np.clip(np.floor(values + 0.5), 0, 255).astype(np.uint8))


def blur(rgb: Pixels, radius: float) -> Pixels:
    """Gaussian blur; `radius` is its deviation in pixels."""
    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))


def add_noise(rgb: Pixels, sigma: float, rng: np.random.Generator, grain: int = 1) -> Pixels:
    """Normal noise of deviation `sigma` (of 255) per channel, in squares of `grain` pixels."""
    h, w = rgb.shape[:2]
    noise = rng.normal(0, sigma, (-(-h // grain), -(-w // grain), 3))
    return to_bytes(rgb + noise.repeat(grain, 0).repeat(grain, 1)[:h, :w])


def jpeg(rgb: Pixels, quality: int) -> Pixels:
    """A round trip through JPEG, chroma halved."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer).convert("RGB"))


def enlarge_again(rgb: Pixels, factor: int) -> Pixels:
    """Box reduction by a whole factor, then bicubic enlargement to the size before."""
    small = Image.fromarray(box_reduce(rgb, factor))
    return np.asarray(small.resize((rgb.shape[1], rgb.shape[0]), Image.Resampling.BICUBIC))


def shuffle_blocks(rgb: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    """Whole blocks of `side` pixels put in another order; a ragged border stays."""
    rows, columns = rgb.shape[0] // side, rgb.shape[1] // side
    if rows * columns < 2:
        raise ConfigError(f"expected blocks that fit twice into {rgb.shape[:2]}, got side {side}")
    whole = rgb[: rows * side, : columns * side]
    blocks = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    mixed = blocks[rng.permutation(len(blocks))].reshape(rows, columns, side, side, 3)
    out = rgb.copy()
    out[: rows * side, : columns * side] = mixed.swapaxes(1, 2).reshape(whole.shape)
    return out


def scramble(rgb: Pixels, radius: float, rng: np.random.Generator) -> Pixels:
    """Detail finer than a Gaussian of `radius` pixels, with its spectrum but random phases.

    A texture without structure: octave energies stay, kurtosis falls to that of a normal law.
    """
    detail = rgb.astype(np.float64) - blur(rgb, radius)
    turn = np.fft.rfft2(rng.standard_normal(rgb.shape[:2]))
    turn /= np.maximum(np.abs(turn), 1e-12)
    spectrum = np.fft.rfft2(detail, axes=(0, 1)) * turn[..., None]
    mixed = np.fft.irfft2(spectrum, s=rgb.shape[:2], axes=(0, 1))
    return to_bytes(rgb - detail + mixed)


def shift_colour(rgb: Pixels, amount: float) -> Pixels:
    """Optical density times 1 + amount in red, 1 in green, 1 - amount in blue."""
    density = -np.log((rgb.astype(np.float64) + 0.5) / 255.5)
    gains = np.array([1 + amount, 1.0, 1 - amount])
    return to_bytes(np.exp(-density * gains) * 255.5 - 0.5)


def add_seams(rgb: Pixels, height: float, rng: np.random.Generator, step: int = PATCH) -> Pixels:
    """Every square of `step` pixels brighter or darker by a normal draw of deviation `height`."""
    return add_noise(rgb, height, rng, step)


@dataclass(frozen=True)
class Degradation:
    """A kind of damage with strengths in its own unit, weakest first."""

    name: str
    strengths: tuple[float, ...]
    apply: Callable[[Pixels, float, np.random.Generator], Pixels]


def _scale(low: float, high: float, count: int) -> tuple[float, ...]:
    return tuple(float(v) for v in np.geomspace(low, high, count))


KINDS = (
    Degradation("blur", _scale(0.5, 4, 7), lambda rgb, s, _: blur(rgb, s)),
    Degradation("noise", _scale(3, 30, 7), add_noise),
    Degradation("grain", _scale(3, 30, 7), lambda rgb, s, rng: add_noise(rgb, s, rng, 3)),
    Degradation("jpeg", _scale(60, 5, 7), lambda rgb, s, _: jpeg(rgb, round(s))),
    Degradation("enlarged", (2, 4, 8), lambda rgb, s, _: enlarge_again(rgb, round(s))),
    Degradation("shuffled", (32, 16, 8), lambda rgb, s, rng: shuffle_blocks(rgb, round(s), rng)),
    Degradation("scrambled", _scale(0.7, 4, 7), scramble),
)
