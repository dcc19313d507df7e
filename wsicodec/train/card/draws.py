"""Windows for a whole batch at once, as likely as `data.Sampler` makes them one by one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import LEVELS
from wsicodec.train.data import MAP_STEP, Sampler

Ints = NDArray[np.int64]
TRIES = 12  # places looked at for one with enough tissue


@dataclass(frozen=True)
class Windows:
    """Squares of `side` pixels: place, its own level, and corner; all (n,)."""

    place: Ints
    level: Ints
    y: Ints
    x: Ints
    side: int


class Drawer:
    """A sampler's choices as one table of probabilities, and the tissue as integral images."""

    def __init__(self, sampler: Sampler, tissue: Sequence[NDArray[np.float32]]) -> None:
        self.share = sampler.config.tissue_share
        chances, numbers, levels = [], [], []
        for mag in range(LEVELS):
            for share, items in sampler.choices[mag]:
                weights = np.array([w for w, _, _ in items])
                chances.append(sampler.magnifications[mag] * share * weights / weights.sum())
                numbers.append([number for _, number, _ in items])
                levels.append([level for _, _, level in items])
        self.last = np.cumsum(np.concatenate(chances))
        self.numbers, self.levels = np.concatenate(numbers), np.concatenate(levels)
        self.shapes = np.zeros((len(sampler.places), LEVELS + 1, 2), np.int64)
        for number, place in enumerate(sampler.places):
            known = place.shapes[: LEVELS + 1]
            self.shapes[number, : len(known)] = known
        self._integrate(tissue)

    def _integrate(self, tissue: Sequence[NDArray[np.float32]]) -> None:
        sums = [np.pad(t.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0))) for t in tissue]
        sizes = np.array([s.size for s in sums])
        self.sums = np.concatenate([s.ravel() for s in sums])
        self.first = np.cumsum(sizes) - sizes
        self.cells = np.array([t.shape for t in tissue], np.int64)

    def draw(self, rng: np.random.Generator, count: int, side: int, align: int = 1) -> Windows:
        """Windows whose corners are multiples of `align`; each prefers tissue."""
        item = np.searchsorted(self.last, rng.random(count) * self.last[-1], side="right")
        item = np.minimum(item, len(self.numbers) - 1)
        place, level = self.numbers[item], self.levels[item]
        room = self.shapes[place, level][:, None] - side + 1
        corners = (rng.random((count, TRIES, 2)) * room).astype(np.int64) // align * align
        found = self.tissue(place, level, corners, side)
        enough = found >= self.share
        chosen = np.where(enough.any(1), enough.argmax(1), found.argmax(1))
        y, x = corners[np.arange(count), chosen].T
        return Windows(place, level, y, x, side)

    def tissue(self, place: Ints, level: Ints, corners: Ints, side: int) -> NDArray[np.float64]:
        """Tissue fraction (n, k) of squares at `corners` (n, k, 2) in pixels of their level."""
        scale = ((1 << level) / MAP_STEP)[:, None, None]
        cells = self.cells[place][:, None]
        low = np.minimum((corners * scale).astype(np.int64), cells - 1)
        high = np.maximum(np.ceil((corners + side) * scale).astype(np.int64), low + 1)
        high = np.minimum(high, cells)
        first, width = self.first[place][:, None], cells[:, :, 1] + 1

        def at(y: Ints, x: Ints) -> NDArray[np.float64]:
            return np.asarray(self.sums[first + y * width + x])

        (y0, x0), (y1, x1) = np.moveaxis(low, -1, 0), np.moveaxis(high, -1, 0)
        total = at(y1, x1) - at(y0, x1) - at(y1, x0) + at(y0, x0)
        return np.asarray(total / ((y1 - y0) * (x1 - x0)))
