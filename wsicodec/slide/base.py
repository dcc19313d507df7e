"""What a source of pixels must offer, and the one filter that makes it smaller.

The frame `src_` is that of the source's finest level, see `wsicodec.geometry`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region

Facts = dict[str, str | float | int]
Pixel = TypeVar("Pixel", np.uint8, np.float32, np.float64)

# Everything that is ever told about a source besides its pixels. None of it can name a person.
FACTS = ("vendor", "objective", "compression", "quality", "tile", "bits")
WHITE = 255
STRIP = 1 << 23  # pixels that are held at once while a level is made smaller


@runtime_checkable
class SlideReader(Protocol):
    """A source of pixels as the encoder wants it; any object with these members will do."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the finest level in pixels."""
        ...

    @property
    def mpp(self) -> float | None:
        """Micrometres per pixel of the finest level, mean of x and y; None if it does not say."""
        ...

    @property
    def mpp_source(self) -> str:
        """The property that `mpp` was read from; empty if there is none."""
        ...

    @property
    def icc(self) -> bytes | None:
        """The embedded ICC profile."""
        ...

    @property
    def facts(self) -> Facts:
        """Harmless facts, keys out of `FACTS`."""
        ...

    def read(self, src_region: Region) -> NDArray[np.uint8]:
        """RGB pixels (h, w, 3) of a region inside `shape`; what was not scanned is white."""
        ...

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide as RGB (h, w, 3), its longer side at most `max_side` pixels."""
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...


def allowed_facts(found: Mapping[str, str | float | int | None]) -> Facts:
    """Only what `FACTS` allows, and only what is known."""
    return {k: v for k in FACTS if (v := found.get(k)) is not None and v != ""}


def box_reduce(rgb: NDArray[Pixel], factor: int) -> NDArray[Pixel]:
    """Reduce an image by a whole factor with a box filter.

    rgb: (h, w, c), uint8 or float; uint8 is summed in integers and rounded half up.
    factor: at least 1. A ragged last row or column averages what is there, so the result is
        (ceil(h / factor), ceil(w / factor), c) of the same dtype.
    """
    if factor == 1:
        return rgb
    height, width = rgb.shape[:2]
    if height % factor == 0 and width % factor == 0:
        return _box_whole(rgb, factor)
    return _box_ragged(rgb, factor)


def _box_whole(rgb: NDArray[Any], factor: int) -> NDArray[Any]:
    if rgb.dtype != np.uint8:
        h, w, c = rgb.shape
        blocks = rgb.reshape(h // factor, factor, w // factor, factor, c)
        return np.asarray(blocks.mean(axis=(1, 3), dtype=np.float64).astype(rgb.dtype))
    # Slices instead of a reshaped sum: several times faster, and exact in these integers.
    wide = np.uint16 if factor <= 16 else np.uint32
    rows: NDArray[Any] = rgb[0::factor].astype(wide)
    for i in range(1, factor):
        rows += rgb[i::factor]
    total: NDArray[Any] = rows[:, 0::factor].astype(wide)
    for i in range(1, factor):
        total += rows[:, i::factor]
    area = factor * factor
    total += area // 2
    total //= area
    return total.astype(np.uint8)


def _box_ragged(rgb: NDArray[Any], factor: int) -> NDArray[Any]:
    height, width = rgb.shape[:2]
    ys, xs = np.arange(0, height, factor), np.arange(0, width, factor)
    integer = rgb.dtype == np.uint8
    wide = np.int64 if integer else np.float64
    total: NDArray[Any] = np.add.reduceat(rgb, ys, axis=0, dtype=wide)
    total = np.add.reduceat(total, xs, axis=1)
    count_y = np.minimum(ys + factor, height) - ys
    count_x = np.minimum(xs + factor, width) - xs
    area = (count_y[:, None] * count_x[None, :])[..., None]
    mean = (total + area // 2) // area if integer else total / area
    return np.asarray(mean.astype(rgb.dtype))


def reduce_to_fit(
    read_rows: "RowReader", shape: tuple[int, int], max_side: int
) -> NDArray[np.uint8]:
    """Box-filter an image by the smallest whole factor that makes it fit, strip by strip.

    read_rows: gives the RGB rows y0 to y1 in full width.
    shape: height and width of the image that it reads.
    max_side: longest side wanted, pixels.
    """
    factor = max(1, -(-max(shape) // max_side))
    step = max(1, STRIP // (shape[1] * factor)) * factor
    strips = [
        box_reduce(read_rows(y, min(y + step, shape[0])), factor) for y in range(0, shape[0], step)
    ]
    return np.concatenate(strips)


class RowReader(Protocol):
    """Reads whole rows of an image."""

    def __call__(self, y0: int, y1: int, /) -> NDArray[np.uint8]:
        """RGB rows y0 to y1."""
        ...


def require_rgb(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> None:
    """Raise SlideError unless an array of `shape` and `dtype` is RGB or RGBA of 8 bits."""
    if len(shape) != 3 or shape[2] not in (3, 4):
        raise SlideError(
            f"expected three channels (RGB, 8 bits) in {name}, got an image of shape {shape}; "
            "convert it to RGB first"
        )
    if dtype != np.uint8:
        raise SlideError(f"expected 8 bits a channel in {name}, got {dtype}; convert it first")
    if not shape[0] or not shape[1]:
        raise SlideError(f"expected pixels in {name}, got an image of shape {shape}")


def over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB from RGB or straight-alpha RGBA (h, w, 3 or 4); what is transparent becomes white."""
    rgb = pixels[..., :3]
    if pixels.shape[-1] == 3:
        return np.ascontiguousarray(rgb)
    alpha = pixels[..., 3:]
    lowest = int(alpha.min(initial=WHITE))
    if lowest == WHITE:
        return np.ascontiguousarray(rgb)
    weight = alpha.astype(np.uint16)
    mixed = (rgb * weight + WHITE * (WHITE - weight) + WHITE // 2) // WHITE
    return mixed.astype(np.uint8)
