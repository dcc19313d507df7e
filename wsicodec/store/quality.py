"""How well the anchor of a slide is coded: as well as its preset's rate allows.

One quality for all would spend half the rate on smooth tissue. A few patches of tissue, reduced and
laid side by side, are coded at several qualities instead, and the best that is cheap enough is
taken. Places and order are fixed, so an encoding that is run again chooses again the same.

Around every piece of tissue stand patches that are nearly all glass, kept because they may hold
some. They cost next to nothing, and small pieces have as many of them as of others: counted as
tissue, they would let the others take twice the rate.
"""

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.images import best_quality
from wsicodec.geometry import PATCH, Region
from wsicodec.models.bundle import AnchorPlan
from wsicodec.resample import box_reduce
from wsicodec.slide.scaled import Slide

SIDE = 8  # patches a side of what is tried: of a mixed slide, its rate is within some 5 %
SOLID = 0.25  # of a patch; what has less tissue counts where there is nothing else


def settle_quality(slide: Slide, share: NDArray[np.float64], plan: AnchorPlan) -> int:
    """The quality to code a slide's anchor with, on its codec's own scale.

    Args:
        slide: to be encoded.
        share: (gy, gx) of each patch that is tissue, 0 where none is kept.
        plan: of the bundle; without a rate, or a slide without tissue, its own quality stands.
    """
    solid = share >= SOLID
    places = np.argwhere(solid if solid.any() else share > 0)
    if plan.bpp is None or not len(places):
        return plan.quality
    tried = _sample(slide, places, plan.level)
    area = tried.shape[0] * tried.shape[1] << 2 * plan.level
    return best_quality(tried, plan.codec, plan.bpp * area / 8)


def _sample(slide: Slide, places: NDArray[np.intp], level: int) -> NDArray[np.uint8]:
    """Up to SIDE x SIDE patches from all over the tissue, reduced to `level`, as one picture."""
    side = min(SIDE, int(len(places) ** 0.5))
    chosen = places[np.linspace(0, len(places) - 1, side * side).round().astype(np.intp)]
    patches = [
        box_reduce(
            slide.read(Region(y * PATCH, x * PATCH, (y + 1) * PATCH, (x + 1) * PATCH)), 1 << level
        )
        for y, x in chosen.tolist()
    ]
    rows = [np.concatenate(patches[i : i + side], 1) for i in range(0, len(patches), side)]
    return np.concatenate(rows)
