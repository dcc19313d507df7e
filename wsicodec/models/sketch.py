"""The sketch: a coarse picture that a grid of embeddings makes by itself, in NumPy.

Slides that keep no picture are drawn from it, and so are slides that never were. A patch has the
mean colour that its embedding tells, and grain: without it, networks that enlarge a picture would
take what is smooth here for tissue that has no texture.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle
from wsicodec.models.stain_colours import StainColours, load_stain_colours
from wsicodec.resample import double

Floats = NDArray[np.float32]
LEVEL = 5  # whose pixels a sketch has, embeddings being of level 0
SIDE = 8  # pixels a side of a patch
SMOOTH = 2  # doublings of its colours
ROUNDS = 2  # that bring the means of smooth patches to what is told of them
GRAIN_SHARE = (
    0.28  # of the deviations told; networks add the rest, chosen for their octaves on train
)


@dataclass(frozen=True, eq=False)
class Sketch:
    """What makes pictures of grids."""

    stains: StainColours

    def draw(
        self,
        vectors: Floats,
        tissue: NDArray[np.bool_],
        grain: Floats,
        glass: tuple[int, int, int],
    ) -> NDArray[np.uint8]:
        """A picture (h * SIDE, w * SIDE, 3) of a grid.

        Args:
            vectors: (h, w, d) embeddings.
            tissue: (h, w) where there are any.
            grain: standard noise (h * SIDE, w * SIDE).
            glass: RGB of patches without tissue, and of the brightest in any.
        """
        means, deviations = self.stains.of(vectors)
        inside = tissue[..., None]
        texture = np.maximum(_smooth(np.where(inside, np.float32(GRAIN_SHARE) * deviations, 0)), 0)
        means = np.where(inside, means, np.asarray(glass, np.float32))
        picture = _with_means(means, inside) + texture * _soften(grain)[..., None]
        return np.clip(np.rint(picture), 0, glass).astype(np.uint8)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all that it is computed with."""
        return hashlib.sha256(f"wsicodec sketch 2 {self.stains.digest}".encode()).hexdigest()


def load_sketch(bundle: Bundle) -> Sketch | None:
    """What the bundle's embeddings make; None if its embedder measures no stains."""
    stains = load_stain_colours(bundle)
    return None if stains is None else Sketch(stains)


def need_sketch(bundle: Bundle) -> Sketch:
    """The same; raises BundleError if there is none."""
    if (sketch := load_sketch(bundle)) is None:
        raise BundleError(
            f"expected a bundle whose embedder measures stains, but that of {bundle.name} does "
            "not, so its embeddings tell no colours; take another bundle"
        )
    return sketch


def _with_means(means: Floats, inside: NDArray[np.bool_]) -> Floats:
    """A smooth picture whose patches of tissue have these means (h, w, 3), nearly.

    Smoothing mixes a patch with those beside it, so what its mean misses is added before it (van
    Cittert's iteration).
    """
    given, picture = means, _smooth(means)
    for _ in range(ROUNDS):
        given = given + np.where(inside, means - _patch_means(picture), 0)
        picture = _smooth(given)
    return picture


def _smooth(values: Floats) -> Floats:
    """The picture (h * SIDE, w * SIDE, c) of patches' values (h, w, c), its steps rounded off."""
    once = SIDE >> SMOOTH
    picture = np.asarray(values.repeat(once, 0).repeat(once, 1), np.float32)
    for _ in range(SMOOTH):
        picture = double(picture)
    return picture


def _patch_means(picture: Floats) -> Floats:
    rows, columns = picture.shape[0] // SIDE, picture.shape[1] // SIDE
    means = picture.reshape(rows, SIDE, columns, SIDE, -1).mean((1, 3))
    return np.asarray(means, np.float32)


def _soften(grain: Floats) -> Floats:
    """Standard noise (h, w) whose neighbours correlate by 0.44, as tissue's do at 16 µm."""
    for axis in (0, 1):
        near = np.roll(grain, 1, axis) + np.roll(grain, -1, axis)
        grain = np.asarray((grain + 0.25 * near) / 1.125**0.5, np.float32)
    return grain
