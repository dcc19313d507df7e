"""The sketch: colours and grain of a patch, by least squares from its and its neighbours' cells."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.quantizer import EmbeddingTables, quantize
from wsicodec.geometry import PATCH
from wsicodec.models.edm_config import EdmConfig
from wsicodec.models.sketch import SMOOTH, neighbourhoods
from wsicodec.resample import box_reduce, double
from wsicodec.train.variants import Variant

Floats = NDArray[np.float32]
RIDGE = 0.1  # of the mean square of the coefficients; best on pictures held out
CAP = 100  # patches of a source beyond which each counts less


@dataclass(frozen=True)
class _Example:
    """One variant's grid."""

    source: str
    around: Floats  # (gh, gw, 9 (1 + k) + 1)
    near: NDArray[np.bool_]  # (gh, gw), cells with tissue in them or beside them
    tissue: NDArray[np.bool_]  # (gh, gw)
    variant: Variant


def fit_sketch(
    variants: Sequence[Variant],
    tables: EmbeddingTables,
    mean: Floats,
    deviation: Floats,
    config: EdmConfig,
) -> dict[str, Floats]:
    """The tensors "sketch", "grain" and "stain" of `wsicodec.models.sketch.Sketch`.

    Args:
        variants: embedded ones at 20x are learned from.
        tables: of the embeddings' codec.
        mean: of the coefficients (k,), in steps.
        deviation: likewise.
        config: sizes of the model.
    """
    examples = _examples(variants, tables, mean, deviation)
    counts = Counter(e.source for e in examples for _ in range(int(e.near.sum())))
    weights = [1 / np.sqrt(1 + counts[e.source] / CAP) for e in examples]
    free = np.zeros(config.around, bool)
    free[:: config.channels] = True  # coverages, and the one
    side = config.sketch
    colours = [_patches(_picture(e, side), side)[e.near] for e in examples]
    table = _least_squares([e.around[e.near] for e in examples], colours, weights, free)
    amplitudes, stain = [], np.zeros((3, 3))
    for example in examples:
        rest = _patches(_rest(example, table, side), side << SMOOTH)[example.tissue]
        pixels = rest.reshape(len(rest), -1, 3).astype(np.float64)
        amplitudes.append(np.sqrt(np.square(pixels.mean(2)).mean(1))[:, None])
        stain += np.einsum("npc,npd->cd", pixels, pixels)
    rows = [e.around[e.tissue] for e in examples]
    grain = _least_squares(rows, amplitudes, weights, free)[:, 0]
    return {"sketch": table, "grain": grain, "stain": _direction(stain)}


def _direction(covariance: NDArray[np.float64]) -> Floats:
    """The colour (3,) along which most of a rest lies, of mean one: more or less of the stains."""
    found = np.linalg.eigh(covariance)[1][:, -1]
    return np.asarray(found / found.mean(), np.float32)


def _examples(
    variants: Sequence[Variant], tables: EmbeddingTables, mean: Floats, deviation: Floats
) -> list[_Example]:
    found = []
    for variant in variants:
        given = variant.embeddings()
        if given is None or variant.mag_index != 0 or not given[1].any():
            continue
        vectors, tissue = given
        channels = np.zeros((*tissue.shape, 1 + tables.components), np.float32)
        channels[..., 0] = np.where(tissue, 1, -1)
        channels[tissue, 1:] = (quantize(vectors[tissue], tables) - mean) / deviation
        around = _around(channels, whole=variant.kind == "slide")
        near = np.asarray(around[..., :: channels.shape[2]][..., :9].any(-1))
        found.append(_Example(variant.source, around, near, tissue, variant))
    return found


def _around(channels: Floats, *, whole: bool) -> Floats:
    if whole:
        return neighbourhoods(channels)
    # Beyond a field of view lies tissue like its border's, not glass.
    return neighbourhoods(np.pad(channels, ((1, 1), (1, 1), (0, 0)), mode="edge"))[1:-1, 1:-1]


def _picture(example: _Example, side: int) -> Floats:
    """The variant at `side` pixels a patch, (gh * side, gw * side, 3); edges repeat."""
    levels = example.variant.levels
    level = min(len(levels) - 1, (PATCH // side).bit_length() - 1)
    size, rgb = PATCH >> level, np.asarray(levels[level])
    rows, columns = (
        np.minimum(np.arange(n * size), m - 1)
        for n, m in zip(example.tissue.shape, rgb.shape[:2], strict=True)
    )
    small = box_reduce(np.ascontiguousarray(rgb[rows[:, None], columns[None, :]]), size // side)
    return small.astype(np.float32)


def _rest(example: _Example, table: Floats, side: int) -> Floats:
    """What a smooth sketch leaves of the picture at its own pixels."""
    rows, columns = example.tissue.shape
    blocks = (example.around @ table).reshape(rows, columns, side, side, 3).swapaxes(1, 2)
    smooth = np.asarray(blocks.reshape(rows * side, columns * side, 3), np.float32)
    for _ in range(SMOOTH):
        smooth = double(smooth)
    return _picture(example, side << SMOOTH) - smooth


def _patches(picture: Floats, side: int) -> Floats:
    """Each patch's pixels in a row, (gh, gw, side * side * 3)."""
    rows, columns = picture.shape[0] // side, picture.shape[1] // side
    blocks = picture.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return blocks.reshape(rows, columns, -1)


def _least_squares(
    rows: Sequence[Floats],
    values: Sequence[NDArray[np.floating]],
    weights: Sequence[float],
    free: NDArray[np.bool_],
) -> Floats:
    """Ridge regression (Hoerl, Kennard 1970) of all examples' rows, weighted by example.

    free: regressors whose coefficients are not held near zero.
    """
    x = np.concatenate(rows).astype(np.float64)
    weight = np.repeat(weights, [len(r) for r in rows])[:, None]
    gram = (x * weight).T @ x
    power = gram.diagonal()[~free].mean()
    gram += np.diag(np.where(free, 1e-6, RIDGE) * power)
    return np.linalg.solve(gram, (x * weight).T @ np.concatenate(values)).astype(np.float32)
