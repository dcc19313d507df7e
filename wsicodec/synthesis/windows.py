"""Overlapping windows over a plane of cells, estimated together and blended at every step.

All windows see the same noisy plane, and a cell's estimate is the weighted mean of its windows'
(Bar-Tal et al. 2023, MultiDiffusion), so there is no seam where one ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
BATCH = 8  # windows at a time
Estimate = Callable[[Sequence[tuple[int, int]]], Floats]  # corners to (n, side, side, c)


@dataclass(frozen=True)
class Plane:
    """The cells of an octave with a margin of glass that windows may reach into.

    shape: rows and columns of the slide's own cells.
    side: of a window in cells, a multiple of 4.
    """

    shape: tuple[int, int]
    side: int

    @property
    def margin(self) -> int:
        """Cells around the slide's own."""
        return self.side // 4

    @property
    def padded(self) -> tuple[int, int]:
        """Rows and columns with the margin, as whole windows cover them."""
        half = self.side // 2
        rows, columns = (
            max(self.side, -(-(n + 2 * self.margin) // half) * half) for n in self.shape
        )
        return rows, columns

    @property
    def corners(self) -> list[tuple[int, int]]:
        """First row and column of every window in the padded plane, half a window apart."""
        rows, columns = (range(0, n - self.side + 1, self.side // 2) for n in self.padded)
        return [(y, x) for y in rows for x in columns]

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which cells of the padded plane are the slide's own."""
        found = np.zeros(self.padded, np.bool_)
        found[self.own] = True
        return found

    @property
    def own(self) -> tuple[slice, slice]:
        """Where the slide's own cells lie in the padded plane."""
        m = self.margin
        return slice(m, m + self.shape[0]), slice(m, m + self.shape[1])

    def pad(self, values: Floats, fill: Floats | float) -> Floats:
        """A plane (h, w, c) of own cells with `fill` around."""
        out = np.empty((*self.padded, values.shape[2]), np.float32)
        out[...] = fill
        out[self.own] = values
        return out

    def cut(self, plane: NDArray[np.generic], corners: Sequence[tuple[int, int]]) -> Floats:
        """Windows (n, side, side, ...) of a padded plane."""
        s = self.side
        return np.asarray(np.stack([plane[y : y + s, x : x + s] for y, x in corners]))

    def blend(self, estimate: Estimate, needed: NDArray[np.bool_], channels: int) -> Floats:
        """The weighted mean of the windows' estimates (h, w, c) of a padded plane.

        Args:
            estimate: of up to BATCH windows, by their corners.
            needed: (h, w), cells that are wanted; windows without one are skipped, and cells that
                no window sees are zero.
            channels: c.
        """
        s, weight = self.side, self.weight
        wanted = [(y, x) for y, x in self.corners if needed[y : y + s, x : x + s].any()]
        total = np.zeros((*self.padded, channels), np.float32)
        weights = np.zeros((*self.padded, 1), np.float32)
        for first in range(0, len(wanted), BATCH):
            part = wanted[first : first + BATCH]
            for (y, x), window in zip(part, estimate(part), strict=True):
                total[y : y + s, x : x + s] += window * weight
                weights[y : y + s, x : x + s] += weight
        return np.asarray(total / np.maximum(weights, np.float32(1e-6)), np.float32)

    @property
    def weight(self) -> Floats:
        """How much each cell of a window counts (side, side, 1): less towards its border."""
        place = np.arange(self.side, dtype=np.float32) + np.float32(0.5)
        tent = np.minimum(place, self.side - place) / np.float32(self.side / 2)
        return np.asarray(np.square(tent[:, None] * tent[None, :])[..., None], np.float32)
