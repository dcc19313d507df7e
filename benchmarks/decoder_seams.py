"""What windows' borders cost: the same tissue drawn by windows that lie elsewhere.

Windows moved by half have their middles where a store's have their corners, and the reverse. All
else stays, the parent with the blocks of its codec among it, so that places do not matter: what
lies over corners is compared with what is drawn inside windows at the very same squares and lines.
Fields that fewer than two windows cover along an axis have no such place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.bench.judging import LEAST_FILES, Figures
from wsicodec.bench.output import Pixels
from wsicodec.geometry import PATCH
from wsicodec.metrics.bootstrap import around, interval, resample
from wsicodec.metrics.distances import frechet_distance
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.pictures import cut_patches
from wsicodec.metrics.resampled import Resampling

Vectors = NDArray[np.float64]
FURTHER = PATCH // 2  # pixels that windows are moved by along both axes
MIDDLE = np.s_[:, PATCH // 4 : 3 * PATCH // 4, PATCH // 4 : 3 * PATCH // 4]
NAN = float("nan")
KEYS = (
    "fd_inside", "fd_corners", "corners_over_inside", "corners_over_inside_low",
    "corners_over_inside_high", "border_over_inside", "border_over_inside_low",
    "border_over_inside_high",
)  # fmt: skip


def crossed(pictures: Sequence[Pixels]) -> list[int]:
    """Numbers of the fields that at least two windows cover along each axis."""
    return [i for i, rgb in enumerate(pictures) if min(rgb.shape[:2]) >= 2 * PATCH]


@dataclass(frozen=True)
class Seams:
    """The true squares under windows' middles and corners, and what judges."""

    judge: Extractor
    files: Sequence[str]  # of the fields
    draws: int  # of the bootstrap
    features: Vectors
    resampling: Resampling | None  # none where there are too few files for an interval

    @classmethod
    def of(cls, judge: Extractor, true: Sequence[Pixels], files: Sequence[str], draws: int) -> Self:
        """Look at true fields that windows' borders cross, `files` those that they are from."""
        features = judge(squares(true, true))
        counts = [len(squares([rgb], [rgb])) for rgb in true]
        owners = np.repeat(np.array(files), counts).tolist()
        enough = len(set(files)) >= LEAST_FILES
        resampling = Resampling(features, owners, draws) if enough else None
        return cls(judge, files, draws, features, resampling)

    def figures(self, drawn: Sequence[Pixels], moved: Sequence[Pixels]) -> Figures:
        """Both ratios, 1 where windows do not show, with intervals; `KEYS` names all."""
        return self._corners(drawn, moved) | self._borders(drawn, moved)

    def _corners(self, drawn: Sequence[Pixels], moved: Sequence[Pixels]) -> Figures:
        """Fréchet distance of squares over the corners of four windows, over that inside one."""
        found = [self.judge(squares(*pair)) for pair in ((drawn, moved), (moved, drawn))]
        inside, corners = (frechet_distance(self.features, f) for f in found)
        ratio = corners / inside if inside > 0 else NAN
        low = high = NAN
        if self.resampling is not None and inside > 0:
            known = zip((inside, corners), found, strict=True)
            draws = [around(value, self.resampling.distances(f)) for value, f in known]
            told = interval(ratio, draws[1] / draws[0])
            low, high = told.low, told.high
        values = (inside, corners, ratio, low, high)
        return dict(zip(KEYS[:5], values, strict=True))

    def _borders(self, drawn: Sequence[Pixels], moved: Sequence[Pixels]) -> Figures:
        """Mean step across windows' borders over that across their middle lines."""
        pairs = zip(drawn, moved, strict=True)
        sums = np.array([np.add(line_steps(a), line_steps(b)[::-1]) for a, b in pairs])
        whole, low, high = _ratio(sums), NAN, NAN
        if self.resampling is not None:
            draws = resample(lambda rows: _ratio(sums[rows]), self.files, count=self.draws)
            told = interval(whole, draws)
            low, high = told.low, told.high
        return dict(zip(KEYS[5:], (whole, low, high), strict=True))


def squares(middles: Sequence[Pixels], corners: Sequence[Pixels]) -> Pixels:
    """Squares (n, 128, 128, 3): of the first under tiles' middles, of the second their corners."""
    parts = [
        cut_patches(rgb, PATCH, shift)[MIDDLE]
        for pair in zip(middles, corners, strict=True)
        for rgb, shift in zip(pair, (0, FURTHER), strict=True)
    ]
    return np.concatenate(parts)


def line_steps(rgb: Pixels) -> tuple[float, float]:
    """Sums of steps between neighbours across tiles' borders, and across their middle lines."""
    border = middle = 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(rgb.astype(np.int16), axis=axis)).mean((1 - axis, 2))
        at = np.arange(1, len(steps) + 1) % PATCH
        border += float(steps[at == 0].sum())
        middle += float(steps[at == FURTHER].sum())
    return border, middle


def _ratio(sums: NDArray[np.floating]) -> float:
    over, inside = sums.sum(0)
    return float(over / inside) if inside > 0 else NAN
