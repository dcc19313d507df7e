"""Levels, patches and regions as integer arithmetic; no arrays, no files.

Frames, named in front of a variable where two of them meet:

    src_   pixels of the source's finest level
    l0_    pixels of the store's level 0 (the source reduced by a power of two)
    l_     pixels of the level at hand; one is 2**level pixels of level 0
    g_     cells of the embedding grid; one is PATCH x PATCH pixels of level 0
    t_     tiles of the level at hand; one is PATCH x PATCH pixels of that level

Array order everywhere: y before x, height before width.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from wsicodec.errors import MppError

PATCH = 256  # pixels; side of a patch at level 0 and of a tile at any level
LEVELS = 8  # of a store: 20x down to 0.15625x
NATIVE_MPP = 0.5  # micrometres per pixel of magnification index 0, "20x"
MPP_RANGE = (0.05, 40.0)  # micrometres per pixel; outside it a value is a mistake


@dataclass(frozen=True, slots=True)
class Region:
    """A half-open rectangle of pixels, rows `y0:y1` and columns `x0:x1`, in one frame."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def empty(self) -> bool:
        """Whether it holds no pixel."""
        return self.y1 <= self.y0 or self.x1 <= self.x0

    def clip(self, shape: tuple[int, int]) -> "Region":
        """The part inside an image of `shape` (height, width)."""
        height, width = shape
        return Region(max(self.y0, 0), max(self.x0, 0), min(self.y1, height), min(self.x1, width))

    def grow(self, margin: int) -> "Region":
        """The region with `margin` more pixels on every side."""
        return Region(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def scale_up(self, factor: int) -> "Region":
        """The same place in a frame whose pixels are `factor` times smaller."""
        return Region(self.y0 * factor, self.x0 * factor, self.y1 * factor, self.x1 * factor)

    def scale_down(self, factor: int) -> "Region":
        """The smallest covering region in a frame whose pixels are `factor` times larger."""
        return Region(
            self.y0 // factor, self.x0 // factor, -(-self.y1 // factor), -(-self.x1 // factor)
        )

    def intersect(self, other: "Region") -> "Region":
        """What the two have in common; may be empty."""
        return Region(
            max(self.y0, other.y0),
            max(self.x0, other.x0),
            min(self.y1, other.y1),
            min(self.x1, other.x1),
        )

    def slices(self, origin: tuple[int, int] = (0, 0)) -> tuple[slice, slice]:
        """Row and column slices into an array whose first pixel is at `origin`."""
        y, x = origin
        return slice(self.y0 - y, self.y1 - y), slice(self.x0 - x, self.x1 - x)

    def cells(self) -> Iterator[tuple[int, int]]:
        """Every (y, x) in it, row-major: for regions of grid cells or tiles."""
        return ((y, x) for y in range(self.y0, self.y1) for x in range(self.x0, self.x1))


def level_shape(l0_shape: tuple[int, int], level: int) -> tuple[int, int]:
    """Height and width of `level`: level 0 divided by 2**level, rounded up."""
    step = 1 << level
    return -(-l0_shape[0] // step), -(-l0_shape[1] // step)


def grid_shape(l_shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the PATCH x PATCH cells that cover a level of `l_shape`."""
    return -(-l_shape[0] // PATCH), -(-l_shape[1] // PATCH)


def check_mpp(mpp: float) -> float:
    """Return `mpp` (µm/px) if it is believable, else raise MppError."""
    low, high = MPP_RANGE
    if not (math.isfinite(mpp) and low <= mpp <= high):
        raise MppError(
            f"expected mpp (micrometres per pixel) between {low} and {high}, got {mpp}; "
            "give the true value with mpp=..., on the command line --mpp"
        )
    return float(mpp)


def reduction_for(mpp: float) -> int:
    """The power of two that brings a source of `mpp` (µm/px) nearest to 20x; at least 1."""
    return 1 << max(0, round(math.log2(NATIVE_MPP / mpp)))


def magnification_index(l0_mpp: float, level: int) -> int:
    """ZoomLDM's index of a level, 0 for 20x to 7 for 0.15625x, from level 0's µm/px."""
    return min(LEVELS - 1, max(0, round(math.log2(l0_mpp / NATIVE_MPP)) + level))
