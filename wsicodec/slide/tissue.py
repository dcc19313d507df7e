"""Where a slide holds tissue, found on an overview.

Frame: the mask's pixels are those of the overview, MASK_MPP micrometres or a little more; the
grid's cells are PATCH x PATCH pixels of level 0. When in doubt a pixel is tissue: what is wrongly
kept costs a few bytes, what is wrongly dropped is lost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import PATCH, grid_shape
from wsicodec.slide.scaled import Slide

Mask = NDArray[np.bool_]

MASK_MPP = (2.0, 8.0)  # µm per mask pixel: small fields are looked at closer than whole slides
FIELD = 2000.0  # µm; a field up to this long is looked at at the finer of the two
LEAST_TISSUE = 0.02  # of a patch's mask pixels; above it the patch is tissue
SPECK = 1500.0  # µm²; less than this within SPECK_WINDOW is dust
SPECK_WINDOW = 150.0  # µm
PEN_WINDOW = 250.0  # µm
PEN_SHARE = 0.25  # of a PEN_WINDOW; less ink than this is a stained detail, not a stroke
PEN_MARGIN = 30.0  # µm; strokes fray at their edge
GLASS_LEVEL = 170  # 8-bit; darker than this is never taken for glass
GLASS_CHROMA = 24  # 8-bit; glass is gray or faintly tinted
GLASS_SHARE = 0.004  # of the field; less glass than this is none


@dataclass(frozen=True)
class TissueMap:
    """What `find_tissue` found.

    grid: (gy, gx), whether a patch of level 0 holds tissue.
    mask: (h, w), the same in the overview's pixels.
    fraction: of level 0's pixels that are tissue, by the mask.
    background: RGB of the glass; white where there is none.
    """

    grid: Mask
    mask: Mask
    fraction: float
    background: tuple[int, int, int]


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
    smooth = _blur(image.astype(np.float32), 1)
    glass = _glass(smooth)
    background = _background(image, glass)
    mask = _not_glass(smooth, background, glass) if glass.any() else np.ones(glass.shape, bool)
    mask &= ~_ink(smooth, mask_mpp)
    mask = _without_specks(mask, mask_mpp) if glass.any() else mask
    grid = _patch_share(mask, slide.shape) >= LEAST_TISSUE
    return TissueMap(grid, mask, float(mask.mean()), background)


def _glass(smooth: NDArray[np.float32]) -> Mask:
    """Bright, colourless and even pixels; none at all if they are too few to be glass."""
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


def _not_glass(smooth: NDArray[np.float32], background: tuple[int, int, int], glass: Mask) -> Mask:
    """Whatever is darker than glass in some channel, by more than glass itself varies."""
    absorbed = np.asarray(background, np.float32) - smooth
    strongest = absorbed.max(axis=2)
    spread = float(np.std(strongest[glass]))
    return np.asarray(strongest > max(9.0, 3.0 * spread), bool)


def _ink(smooth: NDArray[np.float32], mask_mpp: float) -> Mask:
    """Pen strokes and black borders: colours that haematoxylin and eosin cannot make, in bulk."""
    r, g, b = smooth[..., 0], smooth[..., 1], smooth[..., 2]
    bright, dark = smooth.max(axis=2), smooth.min(axis=2)
    black = (bright < 60) & (bright - dark < 20)
    green = (g > r + 12) & (g > b - 15)
    blue = (r < g) & (b > r + 40)
    red = (r - g > 90) & (r - b > 80) & (np.abs(b - g) < 30)
    ink = black | green | blue | red
    radius = max(1, round(PEN_WINDOW / mask_mpp / 2))
    stroke = ink & (_blur(ink[..., None].astype(np.float32), radius)[..., 0] > PEN_SHARE)
    if not stroke.any():
        return stroke
    margin = max(1, round(PEN_MARGIN / mask_mpp))
    near = _blur(stroke[..., None].astype(np.float32), margin)[..., 0] > 1e-4
    return np.asarray(stroke | near, bool)


def _without_specks(mask: Mask, mask_mpp: float) -> Mask:
    radius = max(1, round(SPECK_WINDOW / mask_mpp / 2))
    share = _blur(mask[..., None].astype(np.float32), radius)[..., 0]
    company = share * (2 * radius + 1) ** 2 * mask_mpp**2
    return np.asarray(mask & (company >= SPECK), bool)


def _blur(image: NDArray[np.float32], radius: int) -> NDArray[np.float32]:
    """Mean over a square of 2 * radius + 1 pixels, (h, w, c); edges average what is there."""
    out = image
    for axis in (0, 1):
        size = image.shape[axis]
        total = np.concatenate(
            [np.zeros_like(out.take([0], axis), np.float64), out.cumsum(axis, np.float64)], axis
        )
        high = np.minimum(np.arange(size) + radius + 1, size)
        low = np.maximum(np.arange(size) - radius, 0)
        shape = [1] * image.ndim
        shape[axis] = size
        mean = (total.take(high, axis) - total.take(low, axis)) / (high - low).reshape(shape)
        out = mean.astype(np.float32)
    return out


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
