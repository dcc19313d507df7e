"""Picture codecs at a ladder of rates, each alone and behind a box downsample.

A rival codes all fields, edge to edge, in one file, which is the least it can pay for headers.
Behind a downsample it is enlarged again by Lanczos' filter: the cheap way to a low rate.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.errors import ConfigError
from wsicodec.resample import box_reduce

Pixels = NDArray[np.uint8]
FACTORS = (4, 2, 8, 1, 16)  # in the order of what they tell beside our rates
REACH = {1: (0, 2), 2: (0, 3), 4: (0, 4), 8: (1, 4), 16: (3, 4)}  # settings that may lie near them


@dataclass(frozen=True)
class Rival:
    """A codec with its own scale of settings, cheapest first."""

    name: str
    library: str  # imagecodecs' name of what it is built with
    settings: tuple[float, ...]
    encode: Callable[[Pixels, float], bytes | bytearray]
    decode: Callable[[bytes | bytearray], Pixels]

    @property
    def available(self) -> bool:
        """Whether this build of imagecodecs has it."""
        return bool(getattr(imagecodecs, self.library).available)


RIVALS = {
    rival.name: rival
    for rival in (
        Rival(
            "avif",
            "AVIF",
            (5, 15, 30, 50, 70),
            lambda rgb, q: imagecodecs.avif_encode(rgb, level=round(q), speed=6, numthreads=1),
            imagecodecs.avif_decode,
        ),
        Rival(
            "jpegxl",
            "JPEGXL",
            (25, 12, 6, 3, 1.5),  # Butteraugli distance
            lambda rgb, q: imagecodecs.jpegxl_encode(rgb, distance=q, effort=5, numthreads=1),
            imagecodecs.jpegxl_decode,
        ),
        Rival(
            "jpeg2000",
            "JPEG2K",
            (22, 26, 30, 34, 38),  # dB over all fields
            lambda rgb, q: imagecodecs.jpeg2k_encode(
                rgb, level=round(q), codecformat="j2k", reversible=False, numthreads=1
            ),
            imagecodecs.jpeg2k_decode,
        ),
        Rival(
            "webp",
            "WEBP",
            (1, 10, 35, 65, 85),
            lambda rgb, q: imagecodecs.webp_encode(rgb, level=q, lossless=False, method=4),
            imagecodecs.webp_decode,
        ),
        Rival(
            "jpeg",
            "JPEG8",
            (3, 8, 20, 45, 75),
            lambda rgb, q: imagecodecs.jpeg8_encode(
                rgb, level=round(q), subsampling="420", optimize=True
            ),
            imagecodecs.jpeg8_decode,
        ),
        Rival(
            "heif",
            "HEIF",
            (5, 15, 30, 50, 70),
            lambda rgb, q: imagecodecs.heif_encode(rgb, level=round(q)),
            imagecodecs.heif_decode,
        ),
    )
}


@dataclass(frozen=True)
class Coded:
    """Fields through a rival."""

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


def settings(names: tuple[str, ...], factors: tuple[int, ...], per_rival: int) -> list[str]:
    """Every setting as "NAME QUALITY" or "NAME QUALITY /FACTOR", most telling first.

    Args:
        names: of rivals.
        factors: that pictures are reduced by before.
        per_rival: settings of each rival at each factor, evenly out of what may lie near ours.

    Raises:
        ConfigError: an unknown rival, or one that imagecodecs was built without.
    """
    found: list[str] = []
    for turn in _spread(per_rival):
        for factor in factors:
            for name in names:
                scale = find_rival(name).settings
                first, last = REACH.get(factor, (0, len(scale) - 1))
                place = first + round(turn * (last - first) / max(1, per_rival - 1))
                found.append(f"{name} {scale[place]:g}" + (f" /{factor}" if factor > 1 else ""))
    return list(dict.fromkeys(found))


def _spread(count: int) -> list[int]:
    """0 to count - 1, the middle first, then the ends, then the rest."""
    first = [count // 2, 0, count - 1]
    return list(dict.fromkeys([*first, *range(count)]))


def find_rival(name: str) -> Rival:
    """The rival of that name; raises ConfigError unless it can run here."""
    rival = RIVALS.get(name)
    if rival is None or not rival.available:
        able = [r.name for r in RIVALS.values() if r.available]
        raise ConfigError(f"expected rivals among {', '.join(able)}, got {name!r}")
    return rival


def code(rgb: Pixels, setting: str) -> Coded:
    """A picture through a rival at one of `settings`."""
    name, quality, *reduced = setting.split()
    rival = find_rival(name)
    factor = int(reduced[0][1:]) if reduced else 1
    small = np.ascontiguousarray(box_reduce(rgb, factor))
    began = time.perf_counter()
    payload = rival.encode(small, float(quality))
    coded = time.perf_counter()
    decoded = np.asarray(rival.decode(payload))
    return Coded(len(payload), decoded, factor, coded - began, time.perf_counter() - coded)
