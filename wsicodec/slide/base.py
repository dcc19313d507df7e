"""What a source of pixels must offer, and the one filter that makes it smaller.

The frame `src_` is that of the source's finest level, see `wsicodec.geometry`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.resample import box_reduce

Facts = dict[str, str | float | int]

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
