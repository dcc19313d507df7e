"""All measures of one level of one codec's output, against the truth, with their intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.metrics.bootstrap import Interval, bootstrap
from wsicodec.metrics.distances import (
    cmmd,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.pictures import (
    aligned_and_shifted,
    block_colour_error,
    cut_patches,
    ms_ssim,
    octave_ratios,
    psnr,
    seam_score,
)
from wsicodec.metrics.retrieval import cosines, retrieval_at_1
from wsicodec.metrics.stains import stain_error

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float64]
NEIGHBOURS = 3
AMONG = 32  # tiles that a decoded one must be found among


@dataclass(frozen=True)
class Truth:
    """The fields at one level, which of their patches hold tissue, and the features of those."""

    level: int
    fields: Sequence[Pixels]
    files: Sequence[str]  # what is resampled: patches of one file are not independent
    tissue: NDArray[np.bool_]  # of every patch of every field, in order
    features: dict[str, Vectors]
    vectors: Vectors | None  # embeddings of the tissue patches, at level 0

    @property
    def groups(self) -> list[str]:
        """The file of each tissue patch."""
        side = patch_side(self.level)
        counts = [len(cut_patches(f, side)) for f in self.fields]
        names = np.repeat(np.array(self.files), counts)
        return [str(name) for name in names[self.tissue]]


def patch_side(level: int) -> int:
    """Pixels a side of what features are taken of: 128 µm of tissue at any level."""
    return PATCH >> level


def tissue_patches(fields: Sequence[Pixels], level: int, tissue: NDArray[np.bool_]) -> Pixels:
    """Patches (n, side, side, 3) that hold tissue."""
    return np.concatenate([cut_patches(f, patch_side(level)) for f in fields])[tissue]


@dataclass(frozen=True)
class Judge:
    """What judges, and how long it may take."""

    extractors: Sequence[Extractor]
    embed: Callable[[Pixels], NDArray[np.floating]]
    draws: int = 60  # of the bootstrap
    similarity: bool = True  # MS-SSIM, the slowest measure

    def truth(
        self,
        level: int,
        fields: Sequence[Pixels],
        files: Sequence[str],
        tissue: NDArray[np.bool_],
    ) -> Truth:
        """What all codecs are compared with at a level."""
        patches = tissue_patches(fields, level, tissue)
        features = {e.name: e(patches) for e in self.extractors}
        vectors = np.asarray(self.embed(patches), np.float64) if level == 0 else None
        return Truth(level, fields, files, tissue, features, vectors)

    def measure(self, truth: Truth, drawn: Sequence[Pixels]) -> dict[str, float]:
        """All figures by name; NaN where a field is too small or nothing is defined."""
        patches = tissue_patches(drawn, truth.level, truth.tissue)
        row = self._pictures(truth, drawn) | {"cosine": float("nan"), "retrieval": float("nan")}
        for extractor in self.extractors:
            row |= self._distances(extractor, truth, extractor(patches))
            row |= self._seams(extractor, truth, drawn)
        if truth.vectors is not None:
            again = np.asarray(self.embed(patches), np.float64)
            row |= {
                "cosine": float(cosines(truth.vectors, again).mean()),
                "retrieval": retrieval_at_1(truth.vectors, again, min(AMONG, len(again))),
            }
        return row

    def _pictures(self, truth: Truth, drawn: Sequence[Pixels]) -> dict[str, float]:
        pairs = list(zip(truth.fields, drawn, strict=True))
        rows = [self._picture(a, b) for a, b in pairs]
        return {name: _median([row[name] for row in rows]) for name in rows[0]}

    def _picture(self, true: Pixels, drawn: Pixels) -> dict[str, float]:
        return {
            "psnr": psnr(true, drawn),
            **octave_ratios(true, drawn),
            "block_colour": block_colour_error(true, drawn),
            "stain_degrees": _or_nan(partial(stain_error, true, drawn)),
            "seam": _or_nan(partial(seam_score, drawn, PATCH)),
            "seam_true": _or_nan(partial(seam_score, true, PATCH)),
            "ms_ssim": ms_ssim(true, drawn) if self.similarity else float("nan"),
        }

    def _distances(self, judge: Extractor, truth: Truth, found: Vectors) -> dict[str, float]:
        true, name = truth.features[judge.name], judge.name

        def distance(rows: NDArray[np.intp]) -> float:
            return frechet_distance(true[rows], found[rows])

        whole = Interval(*[distance(np.arange(len(found)))] * 3)
        if len(set(truth.groups)) > 1:
            whole = bootstrap(distance, truth.groups, count=self.draws)
        precision, recall = float("nan"), float("nan")
        if len(found) > NEIGHBOURS:
            precision, recall = precision_recall(true, found, NEIGHBOURS)
        return {
            f"fd_{name}": whole.value,
            f"fd_{name}_low": whole.low,
            f"fd_{name}_high": whole.high,
            f"kd_{name}": kernel_distance(true, found),
            f"cmmd_{name}": cmmd(true, found),
            f"precision_{name}": precision,
            f"recall_{name}": recall,
        }

    def _seams(self, judge: Extractor, truth: Truth, drawn: Sequence[Pixels]) -> dict[str, float]:
        """Fréchet distance of patches over window borders to that of patches inside windows."""
        pairs = [aligned_and_shifted(side, PATCH) for side in (truth.fields, drawn)]
        ratio = float("nan")
        if len(pairs[0][0]) > 1:
            on, off = (frechet_distance(judge(pairs[0][i]), judge(pairs[1][i])) for i in (0, 1))
            ratio = off / on if on > 0 else float("nan")
        return {f"fd_{judge.name}_shifted_over_aligned": ratio}


def _or_nan(measure: Callable[[], float]) -> float:
    try:
        return measure()
    except ConfigError:  # too little tissue, or no border in the field
        return float("nan")


def _median(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.median(known)) if known else float("nan")
