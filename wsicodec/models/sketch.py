"""The sketch: a coarse picture that a grid of embeddings makes by itself, in NumPy.

Slides that keep no picture are drawn from it, and so are slides that never were.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import PATCH
from wsicodec.models.edm_config import EdmConfig
from wsicodec.models.stain_colours import StainColours
from wsicodec.resample import double

Floats = NDArray[np.float32]
SMOOTH = 2  # doublings of a sketch's colours
ROUNDS = 2  # that bring the means of smooth patches to what is told of them
GLASS = 243.0  # 8-bit; of a sketch without tissue


@dataclass(frozen=True)
class Sketch:
    """What makes pictures of grids; tensors are those of `wsicodec.models.edm.EdmNetwork`."""

    config: EdmConfig
    weights: Mapping[str, Floats]
    stains: StainColours | None = None  # where embeddings tell the mean colours of patches

    def draw(
        self, channels: Floats, grain: Floats, glass: tuple[int, int, int] | None = None
    ) -> NDArray[np.uint8]:
        """A picture (h * p, w * p, 3) of a grid's channels (h, w, 1 + k): its colours, grained.

        Colours and the grain's amplitude are linear in a patch's own coefficients and its
        neighbours'; but a patch's mean colour is what its stains tell, where the embedder measured
        them. Glass where none has tissue. Without grain, networks that enlarge a picture would
        take what is smooth here for tissue that has no texture.

        grain: standard noise (h * p, w * p), p = `side`.
        glass: RGB of every patch without tissue, and of the brightest in any; None, where it is
            not known, leaves patches beside tissue to be guessed from that.
        """
        side = self.config.sketch
        around = neighbourhoods(channels)
        tissue = channels[..., :1] > -1
        near = around[..., :: self.config.channels][..., :9].any(-1, keepdims=True)
        empty = np.tile(np.asarray(glass or (GLASS,) * 3, np.float32), side * side)
        values = np.where(tissue if glass else near, around @ self.weights["sketch"], empty)
        amplitude = np.maximum(around @ self.weights["grain"], 0) * tissue[..., 0]
        texture = np.maximum(_smooth(amplitude[..., None].repeat(side * side, -1), side), 0)
        picture = self._colours(channels, values, tissue)
        picture = picture + texture * _soften(grain)[..., None] * self.weights["stain"]
        return np.clip(np.rint(picture), 0, glass or 255).astype(np.uint8)

    def _colours(self, channels: Floats, values: Floats, tissue: NDArray[np.bool_]) -> Floats:
        """A smooth picture of values (h, w, side * side * 3), its tissue of the mean colours told.

        Smoothing mixes a patch with those beside it, so what is missing is added before it (van
        Cittert's iteration).
        """
        side = self.config.sketch
        picture = _smooth(values, side)
        if self.stains is None:
            return picture
        mean, deviation = self.weights["mean"][0], self.weights["deviation"][0]
        told = self.stains.of(channels[..., 1:] * deviation + mean)
        for _ in range(ROUNDS):
            missing = np.where(tissue, told - _patch_means(picture, self.side), 0)
            values = values + np.tile(missing, side * side)
            picture = _smooth(values, side)
        return picture

    @property
    def side(self) -> int:
        """Pixels a side of a patch."""
        return self.config.sketch << SMOOTH

    @property
    def level(self) -> int:
        """The level of a store whose pixels it has, embeddings being of level 0."""
        return (PATCH // self.side).bit_length() - 1

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all that it is computed with."""
        stains = "" if self.stains is None else self.stains.digest
        told = hashlib.sha256(f"wsicodec sketch 2 {self.config.sketch} {stains}\n".encode())
        for name in ("mean", "deviation", "sketch", "grain", "stain"):
            tensor = self.weights[name]
            told.update(f"{name} {tensor.shape} ".encode() + tensor.astype("<f4").tobytes())
        return told.hexdigest()


def neighbourhoods(channels: Floats) -> Floats:
    """Each cell's own and neighbouring channels, and a one: (h, w, 9 (1 + k) + 1).

    channels: (h, w, 1 + k), coverage in [-1, 1] first. What lies beyond the grid is glass.
    """
    rows, columns, _ = channels.shape
    share = np.concatenate([(channels[..., :1] + 1) / 2, channels[..., 1:]], axis=-1)
    padded = np.pad(share, ((1, 1), (1, 1), (0, 0)))
    parts = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    return np.concatenate([*parts, np.ones((rows, columns, 1), np.float32)], axis=-1)


def _smooth(values: Floats, side: int) -> Floats:
    """The picture (h * p, w * p, c) of patches' values (h, w, side * side * c), enlarged."""
    rows, columns, _ = values.shape
    blocks = values.reshape(rows, columns, side, side, -1).swapaxes(1, 2)
    picture = np.asarray(blocks.reshape(rows * side, columns * side, -1), np.float32)
    for _ in range(SMOOTH):
        picture = double(picture)
    return picture


def _patch_means(picture: Floats, side: int) -> Floats:
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    means = picture.reshape(rows, side, columns, side, -1).mean((1, 3))
    return np.asarray(means, np.float32)


def _soften(grain: Floats) -> Floats:
    """Standard noise (h, w) whose neighbours correlate by 0.44, as tissue's do at 16 µm."""
    for axis in (0, 1):
        near = np.roll(grain, 1, axis) + np.roll(grain, -1, axis)
        grain = np.asarray((grain + 0.25 * near) / 1.125**0.5, np.float32)
    return grain
