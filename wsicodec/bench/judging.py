"""All measures of one level of one codec's output, against the truth, with their intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.metrics.bootstrap import Interval, around, interval, resample
from wsicodec.metrics.distances import (
    cmmd,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.pictures import (
    Octaves,
    aligned_and_shifted,
    block_colour_error,
    cut_patches,
    ms_ssim,
    octaves,
    psnr,
    ratios,
    seam_score,
)
from wsicodec.metrics.resampled import Resampling
from wsicodec.metrics.retrieval import cosines, retrieval_at_1
from wsicodec.metrics.stains import stain_angle, stain_vectors

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float64]
Figures = dict[str, float]
NEIGHBOURS = 3
LEAST_FILES = 4  # that an interval is told of
WIDEST = 512  # values of a feature whose covariances are kept for every draw
AMONG = 32  # tiles that a decoded one must be found among
AGAIN = 128  # tiles embedded again, at most
CENTRE = 512  # pixels a side of what octaves and stains are taken of, in a field's middle
SIMILAR = 256  # of what MS-SSIM is, the slowest


@dataclass(frozen=True)
class Original:
    """A true field, and what measures need of it every time."""

    rgb: Pixels
    octaves: Octaves
    stains: Vectors | None
    seam: float

    @classmethod
    def of(cls, rgb: Pixels) -> "Original":
        """Work it out once."""
        middle = centre(rgb, CENTRE)
        seam = or_nan(partial(seam_score, rgb, PATCH))
        return cls(rgb, octaves(middle), _stains(middle), seam)


@dataclass(frozen=True)
class Truth:
    """The fields at one level, which of their patches hold tissue, and the features of those."""

    level: int
    originals: Sequence[Original]
    files: Sequence[str]  # what is resampled: patches of one file are not independent
    tissue: NDArray[np.bool_]  # of every patch of every field, in order
    groups: Sequence[str]  # the file of each judged square
    features: dict[str, Vectors]
    resampling: dict[str, Resampling]  # by judge, of those with narrow features
    vectors: Vectors | None  # embeddings of some tissue patches, at level 0
    across: dict[str, tuple[Vectors, Vectors]] = field(default_factory=dict)  # see `_seams`


def tissue_patches(fields: Sequence[Pixels], level: int, tissue: NDArray[np.bool_]) -> Pixels:
    """Patches (n, side, side, 3) that hold tissue: 256 px of level 0 at any level."""
    return np.concatenate([cut_patches(f, PATCH >> level) for f in fields])[tissue]


def judged_squares(patches: Pixels) -> Pixels:
    """What features are taken of: two squares on each patch's diagonal (2n, side / 2, ...)."""
    half = patches.shape[1] // 2
    pairs: Pixels = np.stack([patches[:, :half, :half], patches[:, half:, half:]], 1)
    return pairs.reshape(-1, half, half, 3)


def owners(fields: Sequence[Pixels], files: Sequence[str], level: int) -> NDArray[np.str_]:
    """The file of every patch of every field."""
    return np.repeat(np.array(files), [len(cut_patches(f, PATCH >> level)) for f in fields])


def _some(patches: Pixels) -> Pixels:
    rows = np.linspace(0, len(patches) - 1, min(AGAIN, len(patches))).round().astype(int)
    return np.asarray(patches[rows])


@dataclass(frozen=True)
class Judge:
    """What judges, and how long it may take."""

    extractors: Sequence[Extractor]
    embed: Callable[[Pixels], NDArray[np.floating]] | None  # None: no tile is embedded again
    draws: int = 60  # of the bootstrap
    similarity: bool = True  # MS-SSIM, which needs a library

    def truth(
        self,
        level: int,
        fields: Sequence[Pixels],
        files: Sequence[str],
        tissue: NDArray[np.bool_],
    ) -> Truth:
        """What all codecs are compared with at a level."""
        patches = tissue_patches(fields, level, tissue)
        squares = judged_squares(patches)
        groups = owners(fields, files, level)[tissue].repeat(2).tolist()
        features = {e.name: e(squares) for e in self.extractors}
        resampling = {
            name: Resampling(rows, groups, self.draws)
            for name, rows in features.items()
            if len(set(groups)) >= LEAST_FILES and rows.shape[1] <= WIDEST
        }
        vectors = None
        if level == 0 and self.embed is not None:
            vectors = np.asarray(self.embed(_some(patches)), np.float64)
        originals = [Original.of(rgb) for rgb in fields]
        return Truth(level, originals, files, tissue, groups, features, resampling, vectors)

    def measure(self, truth: Truth, drawn: Sequence[Pixels], *, windows: bool) -> dict[str, object]:
        """All figures of all fields together; NaN where a field is too small or nothing is defined.

        windows: whether what drew has windows, whose seams are then looked for.
        """
        patches = tissue_patches(drawn, truth.level, truth.tissue)
        nan = float("nan")
        row: dict[str, object] = {"cosine": nan, "retrieval": nan}
        for extractor in self.extractors:
            row |= self._distances(extractor, truth, extractor(judged_squares(patches)))
            name = f"fd_{extractor.name}_shifted_over_aligned"
            row[name] = _seams(extractor, truth, drawn) if windows else nan
        if truth.vectors is not None and self.embed is not None:
            again = np.asarray(self.embed(_some(patches)), np.float64)
            row["cosine"] = float(cosines(truth.vectors, again).mean())
            if len(again) > 1:
                row["retrieval"] = retrieval_at_1(truth.vectors, again, min(AMONG, len(again)))
        return row

    def pictures(self, truth: Truth, drawn: Sequence[Pixels]) -> list[Figures]:
        """Measures of each field alone."""
        return [self._picture(a, b) for a, b in zip(truth.originals, drawn, strict=True)]

    def _picture(self, true: Original, drawn: Pixels) -> Figures:
        middle = centre(drawn, CENTRE)
        nearest = centre(true.rgb, SIMILAR), centre(drawn, SIMILAR)
        similar = partial(ms_ssim, *nearest, single=True)
        stains = _stains(middle)
        return {
            "psnr": psnr(true.rgb, drawn),
            "ms_ssim": or_nan(similar) if self.similarity else float("nan"),
            **ratios(true.octaves, octaves(middle)),
            "block_colour": block_colour_error(true.rgb, drawn),
            "stain_degrees": float("nan")
            if true.stains is None or stains is None
            else stain_angle(true.stains, stains),
            "seam": or_nan(partial(seam_score, drawn, PATCH)),
            "seam_true": true.seam,
        }

    def _distances(self, judge: Extractor, truth: Truth, found: Vectors) -> dict[str, object]:
        true, name = truth.features[judge.name], judge.name
        value = frechet_distance(true, found)
        draws, whole = np.array([value]), Interval(value, float("nan"), float("nan"))
        if len(set(truth.groups)) >= LEAST_FILES:
            draws = self._drawn(truth, name, found, value)
            whole = interval(value, draws)
        precision, recall = float("nan"), float("nan")
        if len(found) > NEIGHBOURS:
            precision, recall = precision_recall(true, found, NEIGHBOURS)
        return {
            f"fd_{name}": value,
            f"fd_{name}_low": whole.low,
            f"fd_{name}_high": whole.high,
            f"fd_{name}_draws": " ".join(f"{v:.5g}" for v in draws),
            f"kd_{name}": kernel_distance(true, found),
            f"cmmd_{name}": cmmd(true, found),
            f"precision_{name}": precision,
            f"recall_{name}": recall,
        }

    def _drawn(self, truth: Truth, name: str, found: Vectors, value: float) -> Vectors:
        """The distance with files drawn with replacement."""
        if name in truth.resampling:
            return around(value, truth.resampling[name].distances(found))
        true = truth.features[name]

        def distance(rows: NDArray[np.intp]) -> float:
            return frechet_distance(true[rows], found[rows])

        return resample(distance, truth.groups, count=self.draws)


def _seams(judge: Extractor, truth: Truth, drawn: Sequence[Pixels]) -> float:
    """Fréchet distance of squares over window corners to that of squares inside windows."""
    pair = _crossings(drawn)
    if len(pair[0]) < 2:
        return float("nan")
    if judge.name not in truth.across:
        true = _crossings([one.rgb for one in truth.originals])
        truth.across[judge.name] = judge(true[0]), judge(true[1])
    known = truth.across[judge.name]
    on, off = (frechet_distance(known[i], judge(pair[i])) for i in (0, 1))
    return off / on if on > 0 else float("nan")


def _crossings(fields: Sequence[Pixels]) -> tuple[Pixels, Pixels]:
    """Squares of 128 px in the middle of windows, and as many around the corners of four."""
    inside, across = aligned_and_shifted(fields, PATCH)
    middle = np.s_[:, PATCH // 4 : 3 * PATCH // 4, PATCH // 4 : 3 * PATCH // 4]
    return inside[middle], across[middle]


def centre(rgb: Pixels, side: int) -> Pixels:
    """The middle square of a picture, or what there is of it."""
    top, left = (max(0, n - side) // 2 for n in rgb.shape[:2])
    return rgb[top : top + side, left : left + side]


def _stains(rgb: Pixels) -> Vectors | None:
    try:
        return stain_vectors(rgb[::2, ::2])
    except ConfigError:  # too little tissue
        return None


def or_nan(measure: Callable[[], float]) -> float:
    """The figure, or NaN where it is not defined: too little tissue, or no border in the field."""
    try:
        return measure()
    except ConfigError:
        return float("nan")


def medians(rows: Sequence[Figures]) -> Figures:
    """The median of every figure over the rows that have it."""

    def middle(name: str) -> float:
        known = [row[name] for row in rows if not np.isnan(row[name])]
        return float(np.median(known)) if known else float("nan")

    return {name: middle(name) for name in rows[0]}
