"""Grids of symbols and tissue outlines of real slides: what the embedding diffusion learns from.

A variant of a picture at 20x gives a grid as the bitstream would carry it; an overview of a whole
slide, too coarse to embed, gives an outline alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.quantizer import EmbeddingTables, quantize
from wsicodec.geometry import NATIVE_MPP, PATCH
from wsicodec.train.data import Picture
from wsicodec.train.variants import Variant

STAINED = 0.05  # share of an overview's cell; above it the patch is tissue


@dataclass(frozen=True)
class SymbolGrid:
    """One variant of one picture; cells are PATCH pixels at 20x a side."""

    source: str
    kind: str
    tissue: NDArray[np.bool_] = field(repr=False)  # (gh, gw)
    symbols: NDArray[np.int16] | None = field(repr=False)  # (gh, gw, k); none of an overview

    @property
    def whole(self) -> bool:
        """Whether it ends where a slide ends, rather than where a field of view does."""
        return self.kind in ("slide", "overview")


def load_grids(
    pictures: Sequence[Picture], variants: Sequence[Variant], tables: EmbeddingTables
) -> list[SymbolGrid]:
    """The symbols of every variant at 20x that holds tissue, and the outline of every overview.

    Args:
        pictures: of the split to learn from.
        variants: of these pictures, embedded.
        tables: of the embeddings' codec.
    """
    grids = [
        SymbolGrid(picture.source, picture.kind, outline(picture), None)
        for picture in pictures
        if picture.kind == "overview"
    ]
    for variant in variants:
        found = variant.embeddings()
        if found is None or variant.mag_index != 0:
            continue
        vectors, valid = found
        symbols = np.zeros((*valid.shape, tables.components), np.int16)
        if valid.any():
            symbols[valid] = quantize(vectors[valid], tables)
        grids.append(SymbolGrid(variant.source, variant.kind, valid, symbols))
    return [grid for grid in grids if grid.tissue.any()]


def outline(picture: Picture) -> NDArray[np.bool_]:
    """Which patches of an overview hold tissue (gh, gw), by the share of stained pixels."""
    side = max(1, round(PATCH * NATIVE_MPP / picture.mpp))
    rgb = np.asarray(picture.levels[0]).astype(np.int16)
    rows, columns = rgb.shape[0] // side, rgb.shape[1] // side
    rgb = rgb[: rows * side, : columns * side]
    stained = (rgb.max(-1) - rgb.min(-1) > 18) & (rgb.min(-1) < 225)
    shares = stained.reshape(rows, side, columns, side).mean((1, 3))
    return np.asarray(shares > STAINED)
