"""Fields to cut training windows from: real sections, and other tissue laid under real outlines.

Few sections are whole; most tissue comes in fields of view of a few patches. So the fields of one
source are pasted, turned and side by side, under the outline of an overview of another slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.train.augment import turn
from wsicodec.train.data import generator
from wsicodec.train.edm_grids import SymbolGrid

Floats = NDArray[np.float32]
PIECES = 12  # cells of tissue that a composite is pasted from, at least, where its source has them
PASTES = 4  # pieces pasted anywhere, for each that the first layer took


@dataclass(frozen=True)
class Octave:
    """A field in cells of 2**o patches."""

    coverage: Floats  # (h, w) share of a cell that is tissue
    vectors: Floats  # (h, w, k) mean symbols of that tissue, zero where there is none


@dataclass(frozen=True)
class Plane:
    """A whole slide's tissue as symbols of the codec, real or put together."""

    tissue: NDArray[np.bool_] = field(repr=False)  # (gh, gw)
    symbols: NDArray[np.int16] = field(repr=False)  # (gh, gw, k)

    @cached_property
    def octaves(self) -> list[Octave]:
        """The field at octave 0 and coarser, until a cell holds all of it."""
        found = [pooled(self.tissue.astype(np.float32), self.symbols.astype(np.float32))]
        while max(found[-1].coverage.shape) > 1:
            found.append(coarser(found[-1]))
        return found


def pooled(coverage: Floats, vectors: Floats) -> Octave:
    """An octave whose vectors are zero where nothing is covered."""
    return Octave(coverage, np.where(coverage[..., None] > 0, vectors, np.float32(0)))


def coarser(octave: Octave) -> Octave:
    """The octave above: coverage averaged, vectors averaged over what is covered."""
    height, width = (n + n % 2 for n in octave.coverage.shape)
    rows, columns = height - octave.coverage.shape[0], width - octave.coverage.shape[1]
    share = np.pad(octave.coverage, ((0, rows), (0, columns)))
    sums = np.pad(octave.vectors, ((0, rows), (0, columns), (0, 0))) * share[..., None]
    coverage = _quads(share[..., None])[..., 0]
    mean = _quads(sums) / np.maximum(coverage, 1e-6)[..., None]
    return pooled(coverage, np.asarray(mean, np.float32))


def _quads(values: Floats) -> Floats:
    height, width, channels = values.shape
    blocks = values.reshape(height // 2, 2, width // 2, 2, channels)
    return np.asarray(blocks.mean((1, 3)), np.float32)


def sections(grids: Sequence[SymbolGrid], fewest: int) -> list[Plane]:
    """The slides that are whole and embedded, with `fewest` cells of tissue or more."""
    return [
        Plane(g.tissue, g.symbols)
        for g in grids
        if g.kind == "slide" and g.symbols is not None and g.tissue.sum() >= fewest
    ]


def composites(grids: Sequence[SymbolGrid], count: int, seed: int, fewest: int) -> list[Plane]:
    """Tissue of one source each under a real outline, sources in turn.

    Args:
        grids: to take both from.
        count: how many are made.
        seed: of the draws.
        fewest: cells of tissue in an outline worth having.

    Raises ConfigError if there is no outline or no tissue.
    """
    outlines = [g.tissue for g in grids if g.whole and g.tissue.sum() >= fewest]
    sources = sorted({g.source for g in grids if g.symbols is not None})
    if not outlines or not sources:
        raise ConfigError(
            "expected an overview or section, and embedded tissue, among the training pictures; "
            f"got {len(outlines)} outlines and {len(sources)} sources"
        )
    made = []
    for number in range(count):
        rng = generator(seed, number)
        own = [g for g in grids if g.source == sources[number % len(sources)]]
        tissue = turn(outlines[int(rng.integers(len(outlines)))], int(rng.integers(8)))
        made.append(compose(np.asarray(tissue, np.bool_), own, rng))
    return made


def compose(
    tissue: NDArray[np.bool_], own: Sequence[SymbolGrid], rng: np.random.Generator
) -> Plane:
    """Pieces of a few pictures of one source under an outline (gh, gw)."""
    pieces = _pieces(own, rng)
    shape, components = tissue.shape, pieces[0].shape[2]
    symbols = np.zeros((*shape, components), np.int16)
    y, layer = 0, 0
    while y < shape[0]:  # courses of bricks, so that no cell stays empty
        x, course = -int(rng.integers(4)), shape[0]
        while x < shape[1]:
            piece = _turned(pieces, rng)
            _paste(symbols, piece, y, x)
            course = min(course, piece.shape[0])
            x, layer = x + piece.shape[1], layer + 1
        y += course
    for _ in range(PASTES * layer):
        piece = _turned(pieces, rng)
        _paste(symbols, piece, *(int(rng.integers(-2, n)) for n in shape))
    return Plane(tissue, np.where(tissue[..., None], symbols, np.int16(0)))


def _pieces(own: Sequence[SymbolGrid], rng: np.random.Generator) -> list[NDArray[np.int16]]:
    """Rectangles of tissue without a gap, of as few pictures as have enough cells."""
    found: list[NDArray[np.int16]] = []
    for number in rng.permutation(len(own)):
        grid = own[number]
        if grid.symbols is None:
            continue
        found += _rectangles(grid.tissue, grid.symbols, rng)
        if sum(p.shape[0] * p.shape[1] for p in found) >= PIECES:
            break
    return found


def _rectangles(
    tissue: NDArray[np.bool_], symbols: NDArray[np.int16], rng: np.random.Generator
) -> list[NDArray[np.int16]]:
    if tissue.all():
        return [symbols]
    found = []
    for y, x in rng.permutation(np.argwhere(tissue))[:PIECES]:
        side = next(s for s in (4, 3, 2, 1) if tissue[y : y + s, x : x + s].all())
        found.append(symbols[y : y + side, x : x + side])
    return found


def _turned(pieces: list[NDArray[np.int16]], rng: np.random.Generator) -> NDArray[np.int16]:
    piece = pieces[int(rng.integers(len(pieces)))]
    return np.asarray(turn(piece, int(rng.integers(8))), np.int16)


def _paste(plane: NDArray[np.int16], piece: NDArray[np.int16], y: int, x: int) -> None:
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = max(y + piece.shape[0], 0), max(x + piece.shape[1], 0)
    place = plane[y + top : bottom, x + left : right]
    place[...] = piece[top : top + place.shape[0], left : left + place.shape[1]]
