"""What an encoding cost: bytes on disk over the pixels they stand for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.config import BLANK
from wsicodec.geometry import PATCH


@dataclass(frozen=True, slots=True)
class EncodeReport:
    """What came out of an encoding. Every stored byte counts, metadata and manifest included."""

    path: str  # where the store stands, as far as it has a name
    bytes: int
    slide_pixels: int  # of level 0
    tissue_pixels: int  # of level 0, in patches that hold tissue or are kept measured
    bpp_slide: float  # bits per pixel of level 0
    bpp_tissue: float | None  # bits per pixel of tissue; None where there is none
    fraction_tissue: float  # of the slide's pixels, by the tissue mask
    patches: int  # embedded
    seconds: float

    @classmethod
    def of(
        cls,
        path: str,
        size: int,
        shape: tuple[int, int],
        classes: NDArray[np.uint8],
        *,
        fraction: float,
        patches: int,
        seconds: float,
    ) -> "EncodeReport":
        """The report of a store of `size` bytes.

        shape: height and width of level 0 in pixels.
        classes: the `tissue` array (gy, gx).
        fraction: of the slide's pixels that the tissue mask holds.
        """
        pixels, on_tissue = shape[0] * shape[1], tissue_pixels(classes, shape)
        return cls(
            path=path,
            bytes=size,
            slide_pixels=pixels,
            tissue_pixels=on_tissue,
            bpp_slide=bits_per_pixel(size, pixels),
            bpp_tissue=bits_per_pixel(size, on_tissue) if on_tissue else None,
            fraction_tissue=fraction,
            patches=patches,
            seconds=seconds,
        )


def tissue_pixels(classes: NDArray[np.uint8], shape: tuple[int, int]) -> int:
    """Pixels of level 0 in patches that are not blank.

    classes: the `tissue` array (gy, gx).
    shape: height and width of level 0 in pixels.
    """
    heights, widths = (
        np.minimum(np.arange(1, n + 1) * PATCH, side) - np.arange(n) * PATCH
        for n, side in zip(classes.shape, shape, strict=True)
    )
    return int(heights @ (classes != BLANK).astype(np.int64) @ widths)


def bits_per_pixel(size: int, pixels: int) -> float:
    """Bits of `size` bytes per pixel."""
    return 8 * size / pixels
