"""Picture codecs at a ladder of rates, each alone and behind a box downsample.

A rival codes the whole mosaic in one file, which is the least it can pay for headers. Behind a
downsample it is enlarged again by Lanczos' filter: the cheap way to a low rate.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.resample import box_reduce

Pixels = NDArray[np.uint8]
FACTORS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Rival:
    """A codec with its own scale of settings, cheapest first."""

    name: str
    settings: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes | bytearray]
    decode: Callable[[bytes | bytearray], Pixels]


RIVALS = {
    rival.name: rival
    for rival in (
        Rival(
            "jpeg",
            (3, 8, 20, 45, 75),
            lambda rgb, q: imagecodecs.jpeg8_encode(
                rgb, level=round(q), subsampling="420", optimize=True
            ),
            imagecodecs.jpeg8_decode,
        ),
        Rival(
            "jpeg2000",
            (24, 29, 34, 39, 44),  # dB over the mosaic, whose white counts
            lambda rgb, q: imagecodecs.jpeg2k_encode(
                rgb, level=round(q), codecformat="j2k", reversible=False, numthreads=1
            ),
            imagecodecs.jpeg2k_decode,
        ),
        Rival(
            "jpegxl",
            (18, 9, 4.5, 2, 1),  # Butteraugli distance
            lambda rgb, q: imagecodecs.jpegxl_encode(rgb, distance=q, effort=5, numthreads=1),
            imagecodecs.jpegxl_decode,
        ),
        Rival(
            "avif",
            (5, 15, 30, 50, 70),
            lambda rgb, q: imagecodecs.avif_encode(rgb, level=round(q), speed=6, numthreads=1),
            imagecodecs.avif_decode,
        ),
        Rival(
            "webp",
            (1, 10, 35, 65, 85),
            lambda rgb, q: imagecodecs.webp_encode(rgb, level=q, lossless=False, method=4),
            imagecodecs.webp_decode,
        ),
    )
}


@dataclass(frozen=True)
class Coded:
    """A mosaic through a rival."""

    codec: str
    setting: str
    bytes: int
    rgb: Pixels  # decoded, at the size it was coded in
    factor: int  # that it was reduced by
    encode_seconds: float
    decode_seconds: float

    def level(self, level: int, shape: tuple[int, int]) -> Pixels:
        """Pixels of a level of `shape`, reduced or enlarged from what was decoded."""
        reduction = (1 << level) // self.factor
        if reduction >= 1:
            return box_reduce(self.rgb, reduction)
        large = Image.fromarray(self.rgb).resize(shape[::-1], Image.Resampling.LANCZOS)
        return np.asarray(large)


def ladder(
    rgb: Pixels, names: tuple[str, ...], factors: tuple[int, ...], per_rival: int
) -> Iterator[tuple[str, str, Callable[[], Coded]]]:
    """Codec, setting, and what codes the mosaic so when it is called.

    per_rival: settings of each rival at each factor, evenly out of its scale.
    """
    for factor in factors:
        small = np.ascontiguousarray(box_reduce(rgb, factor))
        for name in names:
            rival = RIVALS[name]
            chosen = np.linspace(0, len(rival.settings) - 1, per_rival).round().astype(int)
            for quality in sorted({rival.settings[i] for i in chosen}):
                setting = f"{quality:g}" + (f" /{factor}" if factor > 1 else "")
                yield name, setting, _coder(rival, small, quality, factor, setting)


def _coder(
    rival: Rival, small: Pixels, quality: float, factor: int, setting: str
) -> Callable[[], Coded]:
    def code() -> Coded:
        began = time.perf_counter()
        payload = rival.encode(small, quality)
        coded = time.perf_counter()
        decoded = np.asarray(rival.decode(payload))
        seconds = coded - began, time.perf_counter() - coded
        return Coded(rival.name, setting, len(payload), decoded, factor, *seconds)

    return code
