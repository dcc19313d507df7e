"""Where a slide holds tissue, found on an overview.

Frame: the mask's pixels are those of the overview, MASK_MPP micrometres or a little more; the
grid's cells are PATCH x PATCH pixels of level 0. When in doubt a pixel is tissue: what is wrongly
kept costs a few bytes, what is wrongly dropped is lost.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import PATCH, grid_shape
from wsicodec.slide.scaled import Slide

Mask = NDArray[np.bool_]

# µm per mask pixel: small fields are looked at closer than whole slides, of which the mask would
# else cost more memory than encoding them.
MASK_MPP = (2.0, 20.0)
FIELD = 2000.0  # µm; a field up to this long is looked at at the finer of the two
LEAST_TISSUE = 0.02  # of a patch's mask pixels; above it the patch is tissue
SPECK = 1500.0  # µm²; less than this within SPECK_WINDOW is dust
SPECK_WINDOW = 150.0  # µm
PEN_WINDOW = 100.0  # µm
PEN_SHARE = 0.25  # of a PEN_WINDOW; less ink than this is a stained detail, not a stroke
PEN_MARGIN = 30.0  # µm; strokes fray at their edge
GLASS_LEVEL = 170  # 8-bit; darker than this is never taken for glass
GLASS_CHROMA = 24  # 8-bit; glass is gray or faintly tinted
DARK = 45  # 8-bit; what absorbs more than this is tissue however even it is
EVEN = (2.5, 5.0)  # 8-bit; bounds of the standard deviation below which a place is even
GLASS_SHARE = 0.004  # of the field; less glass than this is none


@dataclass(frozen=True)
class TissueMap:
    """What `find_tissue` found.

    grid: (gy, gx), whether a patch of level 0 holds tissue.
    share: (gy, gx), how much of it is tissue.
    mask: (h, w), the same in the overview's pixels.
    fraction: of level 0's pixels that are tissue, by the mask.
    background: RGB of the glass; white where there is none.
    digest: sha256 in hex of the overview, which tells one slide from another.
    """

    grid: Mask
    share: NDArray[np.float64]
    mask: Mask
    fraction: float
    background: tuple[int, int, int]
    digest: str


def find_tissue(slide: Slide) -> TissueMap:
    """Tell tissue from glass, pen strokes and black borders.

    slide: anything open; only its overview is read.
    """
    um_long = max(slide.shape) * slide.mpp
    finest, coarsest = MASK_MPP
    mask_mpp = float(np.clip(finest * um_long / FIELD, finest, coarsest))
    mask_mpp = max(mask_mpp, slide.mpp / slide.reduction)
    image = slide.overview(max(1, round(um_long / mask_mpp)))
    mask_mpp = um_long / max(image.shape[:2])
    smooth = _blur(image.astype(np.float32))
    glass = _glass(smooth)
    on_glass = bool(glass.any())
    background = _background(image, glass)
    mask = np.ones(glass.shape, bool)
    if on_glass:
        rough = _roughness(image) if um_long > FIELD else None
        mask = _without_specks(_not_glass(smooth, background, glass, rough), mask_mpp)
    mask &= ~_ink(smooth, background, on_glass, mask_mpp)
    share = _patch_share(mask, slide.shape)
    grid = share >= LEAST_TISSUE
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return TissueMap(grid, share, mask, float(mask.mean()), background, digest)


def _glass(smooth: NDArray[np.float32]) -> Mask:
    """Bright and colourless pixels; none at all if they are too few to be glass."""
    bright = smooth.min(axis=2)
    chroma = smooth.max(axis=2) - bright
    candidates = (bright > GLASS_LEVEL) & (chroma < GLASS_CHROMA)
    if candidates.mean() < GLASS_SHARE:
        return np.zeros(bright.shape, bool)
    # Glass is the brightest there is: what is well below its brightest tenth is pale tissue.
    top = float(np.percentile(bright[candidates], 90))
    glass = np.asarray(candidates & (bright > top - 14), bool)
    return glass if glass.mean() >= GLASS_SHARE else np.zeros(bright.shape, bool)


def _background(image: NDArray[np.uint8], glass: Mask) -> tuple[int, int, int]:
    if not glass.any():
        return 255, 255, 255
    r, g, b = (round(float(np.median(image[..., c][glass]))) for c in range(3))
    return r, g, b


def _not_glass(
    smooth: NDArray[np.float32],
    background: tuple[int, int, int],
    glass: Mask,
    rough: NDArray[np.float32] | None,
) -> Mask:
    """What is darker than glass by more than glass varies; if only a little, also rougher.

    Stain that ran out over a slide is pale and even; pale tissue has fibres. A field of view is
    judged without roughness (None): there is no room for such a stain, but for mucus.
    """
    absorbed = (np.asarray(background, np.float32) - smooth).max(axis=2)
    spread = float(np.std(absorbed[glass]))
    pale = absorbed > max(9.0, 3.0 * spread)
    if rough is None:
        return np.asarray(pale, bool)
    even = float(np.clip(2.0 * np.percentile(rough[glass], 75), *EVEN))
    # A pale pixel between fibres belongs to them.
    fibrous = _share(np.asarray(rough > even), 2) > 0.2
    return np.asarray((absorbed > DARK) | (pale & fibrous), bool)


def _roughness(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Standard deviation of green, which both stains absorb most, over 3 x 3 pixels."""
    green = image[..., 1].astype(np.float32)
    variance = _blur(green * green) - _blur(green) ** 2
    return np.asarray(np.sqrt(np.maximum(variance, 0)), np.float32)


def _ink(
    smooth: NDArray[np.float32], background: tuple[int, int, int], on_glass: bool, mask_mpp: float
) -> Mask:
    """Pen strokes and black borders: what haematoxylin and eosin cannot make, and in bulk.

    Both stains absorb green most, and eosin some red; so ink is what absorbs clearly more red
    than green (blue, green), or green without red. Coloured ink is only looked for on glass.
    """
    bright, dark = smooth.max(axis=2), smooth.min(axis=2)
    ink = (bright < 60) & (bright - dark < 20)
    if on_glass:
        light = (smooth + 1) / (np.asarray(background, np.float32) + 1)
        red, green, blue = (-np.log(light[..., c]) for c in range(3))
        ink |= (green < 0.72 * red) & (red > 0.35)
        ink |= (red < 0.07 * green) & (green > 1.0) & (blue > 0.7)
    radius = max(1, round(PEN_WINDOW / mask_mpp / 2))
    stroke = ink & (_share(ink, radius) > PEN_SHARE)
    margin = max(1, round(PEN_MARGIN / mask_mpp))
    return np.asarray(_share(stroke, margin) > 1e-4, bool)


def _without_specks(mask: Mask, mask_mpp: float) -> Mask:
    radius = max(1, round(SPECK_WINDOW / mask_mpp / 2))
    share = _share(mask, radius)
    company = share * (2 * radius + 1) ** 2 * mask_mpp**2
    return np.asarray(mask & (company >= SPECK), bool)


def _share(mask: Mask, radius: int) -> NDArray[np.float32]:
    """Share of a mask in the square of 2 * radius + 1 pixels around each; edges count what is."""
    out: NDArray[Any] = mask
    for axis in (0, 1):
        size = mask.shape[axis]
        high = np.minimum(np.arange(size) + radius, size - 1)
        low = np.arange(size) - radius - 1
        total = out.cumsum(axis, np.int32)
        below = total.take(np.maximum(low, 0), axis)
        below *= np.expand_dims(low >= 0, 1 - axis)
        out = total.take(high, axis)
        out -= below
    area = _span(mask.shape[0], radius)[:, None] * _span(mask.shape[1], radius)[None, :]
    return np.asarray(out / area, np.float32)


def _span(size: int, radius: int) -> NDArray[np.float32]:
    at = np.arange(size)
    span = np.minimum(at + radius, size - 1) - np.maximum(at - radius, 0) + 1
    return np.asarray(span, np.float32)


def _blur(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over 3 x 3 pixels of (h, w) or (h, w, c); edges are repeated."""
    for axis in (0, 1):
        last = image.shape[axis] - 1
        here = np.arange(last + 1)
        before = image.take(np.maximum(here - 1, 0), axis)
        after = image.take(np.minimum(here + 1, last), axis)
        before += image
        before += after
        image = before / np.float32(3)
    return image


def _patch_share(mask: Mask, l0_shape: tuple[int, int]) -> NDArray[np.float64]:
    """The share of tissue in every patch; a patch finer than the mask takes its nearest pixels."""
    rows, columns = (
        _edges(count, size, cells)
        for count, size, cells in zip(mask.shape, l0_shape, grid_shape(l0_shape), strict=True)
    )
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(0, np.float64).cumsum(1)
    (y0, y1), (x0, x1) = rows, columns
    inside = total[y1][:, x1] - total[y0][:, x1] - total[y1][:, x0] + total[y0][:, x0]
    return np.asarray(inside / ((y1 - y0)[:, None] * (x1 - x0)[None, :]))


def _edges(count: int, size: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    scale = count / size
    start = np.minimum(np.floor(np.arange(cells) * PATCH * scale).astype(np.intp), count - 1)
    stop = np.ceil(np.minimum(np.arange(1, cells + 1) * PATCH, size) * scale).astype(np.intp)
    return start, np.clip(stop, start + 1, count)
