"""Figures of drawn fields, level by level."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.decoder_seams import Seams, crossed
from benchmarks.decoder_variants import Drawn, Floats, files
from wsicodec.bench.fields import Mosaic
from wsicodec.bench.judging import (
    CENTRE,
    Figures,
    Judge,
    Truth,
    centre,
    judged_squares,
    medians,
    tissue_patches,
)
from wsicodec.bench.output import Pixels
from wsicodec.geometry import PATCH
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.pictures import chroma, chroma_ratios, cut_patches
from wsicodec.metrics.retrieval import cosines, retrieval_at_1
from wsicodec.models.networks import Embedder
from wsicodec.resample import box_reduce

Vectors = NDArray[np.float64]
JUDGE = "held_out"
AMONG = 100  # tiles that a decoded one must be found among
NAN = float("nan")
ELSEWHERE = ("cosine", "retrieval", f"fd_{JUDGE}_shifted_over_aligned", "ms_ssim")


@dataclass(frozen=True)
class Ground:
    """The true fields, what judges, and what has been worked out of them."""

    mosaic: Mosaic
    judge: Judge
    _truths: dict[int, Truth] = field(default_factory=dict)
    _seams: dict[int, Seams | None] = field(default_factory=dict)
    _chroma: dict[int, list[list[float]]] = field(default_factory=dict)
    _pictures: dict[tuple[int, str], list[Figures]] = field(default_factory=dict)

    def level(self, level: int) -> list[Pixels]:
        """The true fields at a level."""
        return [np.asarray(box_reduce(f.rgb, 1 << level)) for f in self.mosaic.fields]

    def truth(self, level: int) -> Truth:
        """What judges need of them."""
        if level not in self._truths:
            names = [f.file for f in self.mosaic.fields]
            found = self.judge.truth(level, self.level(level), names, self.mosaic.tissue)
            self._truths[level] = replace(found, vectors=None)  # see `told`
        return self._truths[level]

    def seams(self, level: int) -> Seams | None:
        """What windows' borders are judged by; None where no field is as large as two windows."""
        if level not in self._seams:
            true = self.level(level)
            chosen = crossed(true)
            files = [self.mosaic.fields[i].file for i in chosen]
            extractor = next(e for e in self.judge.extractors if e.name == JUDGE)
            fields = [true[i] for i in chosen]
            made = Seams.of(extractor, fields, files, self.judge.draws) if chosen else None
            self._seams[level] = made
        return self._seams[level]

    def pictures(self, level: int, drawn: Sequence[Pixels]) -> list[Figures]:
        """Measures of each field alone; once of the same pixels, as all ways share an anchor."""
        name = level, pixels_digest(drawn)
        if name not in self._pictures:
            self._pictures[name] = self.judge.pictures(self.truth(level), drawn)
        return self._pictures[name]

    def figures(self, level: int, drawn: Sequence[Pixels]) -> dict[str, object]:
        """Distances with intervals, and medians over fields of what is measured of each."""
        truth = self.truth(level)
        found = self.judge.measure(truth, drawn, windows=False)
        found |= medians(self.pictures(level, drawn))
        for name in ELSEWHERE:
            del found[name]
        return found

    def colours(self, level: int, drawn: Sequence[Pixels]) -> Figures:
        """Medians over fields of the energies of differences of colours, drawn over true."""
        if level not in self._chroma:
            self._chroma[level] = [chroma(centre(rgb, CENTRE)) for rgb in self.level(level)]
        pairs = zip(self._chroma[level], drawn, strict=True)
        return medians([chroma_ratios(true, chroma(centre(rgb, CENTRE))) for true, rgb in pairs])

    def told(self, drawn: Drawn, level_0: Sequence[Pixels], embed: Embedder) -> Figures:
        """How much of the embeddings is found again in decoded tiles by their bundle's embedder."""
        patches = np.concatenate([cut_patches(rgb, PATCH) for rgb in level_0])[self.mosaic.tissue]
        again = embed(patches)
        stored, told = drawn.vectors, drawn.told_vectors
        row = {
            "cosine": float(cosines(stored, again).mean()),
            "cosine_told": float(cosines(told, again).mean()) if told.any(1).all() else NAN,
        }
        return row | found_again(stored, again, files(self.mosaic))

    def of_fields(self, level: int, drawn: Sequence[Pixels]) -> list[Figures]:
        """Measures of each field alone, its own distance among them."""
        truth = self.truth(level)
        extractor = next(e for e in self.judge.extractors if e.name == JUDGE)
        squares = judged_squares(tissue_patches(drawn, level, self.mosaic.tissue))
        true, found = truth.features[JUDGE], extractor(squares)
        rows = [dict(row) for row in self.pictures(level, drawn)]
        counts = [len(cut_patches(rgb, PATCH >> level)) for rgb in drawn]
        numbers = np.repeat(np.arange(len(counts)), counts)[self.mosaic.tissue].repeat(2)
        for number, row in enumerate(rows):
            own = numbers == number
            row["own_distance"] = diagonal_distance(true[own], found[own])
        return rows


def pixels_digest(pictures: Sequence[Pixels]) -> str:
    """Tells pictures apart by their pixels."""
    found = hashlib.sha256()
    for rgb in pictures:
        found.update(f"{rgb.shape}".encode() + rgb.tobytes())
    return found.hexdigest()


def remembered(judge: Extractor) -> Extractor:
    """A judge that looks at the same pictures once.

    The stored levels of an anchor are the same however the levels below are drawn.
    """
    known: dict[str, NDArray[np.floating]] = {}

    def run(pixels: Pixels) -> NDArray[np.floating]:
        name = pixels_digest([pixels])
        if name not in known:
            known[name] = judge.run(pixels)
        return known[name]

    return replace(judge, run=run)


def diagonal_distance(true: Vectors, drawn: Vectors) -> float:
    """Squared Fréchet distance of normal laws without correlations, of features (n, d).

    What a single field's few patches allow: with d features a whole covariance would need more.
    """
    shift = np.square(true.mean(0) - drawn.mean(0)).sum()
    return float(shift + np.square(true.std(0) - drawn.std(0)).sum())


def found_again(stored: Floats, again: NDArray[np.floating], owners: NDArray[np.str_]) -> Figures:
    """Retrieval@1 among 100 tiles: of all files, and of files from one source.

    A source is what names of files begin with, up to the first underscore; only those with 100
    tiles count. NaN where there are fewer.
    """
    among_all = retrieval_at_1(stored, again, AMONG) if len(stored) >= AMONG else NAN
    sources = np.array([name.partition("_")[0] for name in owners.tolist()])
    large = [s for s in dict.fromkeys(sources.tolist()) if (sources == s).sum() >= AMONG]
    within = [retrieval_at_1(stored[sources == s], again[sources == s], AMONG) for s in large] or [
        NAN
    ]
    return {"retrieval_100": among_all, "retrieval_100_source": float(np.mean(within))}


def grey_change(mosaic: Mosaic, one: Sequence[Pixels], other: Sequence[Pixels]) -> float:
    """How many grey levels pixels differ: the mean over a tile, the median over tiles."""
    tiles = [
        np.concatenate([cut_patches(rgb, PATCH) for rgb in fields])[mosaic.tissue]
        for fields in (one, other)
    ]
    a, b = (t.mean(-1, dtype=np.float32) for t in tiles)
    return float(np.median(np.abs(a - b).mean((1, 2))))
