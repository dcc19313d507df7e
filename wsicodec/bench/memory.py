"""A decoder that only remembers: every patch is replaced by the nearest one of the training set.

It has perfect texture and the wrong tissue. A distance between sets alone cannot tell it from a
good codec, so it stands on the plot as what such a distance is worth by itself.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsicodec.bench.fields import Mosaic, gather, lay_out
from wsicodec.bench.output import Output, Pixels
from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.metrics.pictures import cut_patches
from wsicodec.resample import box_reduce

Embed = Callable[[Pixels], NDArray[np.floating]]
FIELDS = 4  # of one training file
MOST = 2048  # patches that are remembered, evenly thinned: a minute of one core to embed


@dataclass(frozen=True)
class Bank:
    """Training patches (n, 256, 256, 3) and their vectors of length one (n, d)."""

    patches: Pixels
    vectors: NDArray[np.floating]

    @property
    def bits(self) -> int:
        """Of the number of a patch."""
        return max(1, math.ceil(math.log2(len(self.patches))))


def load_bank(index: Path, embed: Embed, *, split: str = "train", fields: int = FIELDS) -> Bank:
    """Patches of tissue near 20x of a training index (see `fields.sources`)."""
    mosaic = lay_out("training", gather(index, split=split, fields=fields), gap=0)
    patches = np.concatenate([cut_patches(f.rgb, PATCH) for f in mosaic.fields])[mosaic.tissue]
    if not len(patches):
        raise ConfigError(f"expected tissue near 20x in {index}, found none; check --train")
    patches = patches[np.linspace(0, len(patches) - 1, min(MOST, len(patches))).round().astype(int)]
    return Bank(patches, _units(embed(patches)))


def remember(mosaic: Mosaic, bank: Bank, embed: Embed) -> Output:
    """Each patch as the number of the nearest one in the bank, by cosine of embeddings."""
    counts = [(f.rgb.shape[0] // PATCH, f.rgb.shape[1] // PATCH) for f in mosaic.fields]
    patches = np.concatenate([cut_patches(f.rgb, PATCH) for f in mosaic.fields])
    nearest = (_units(embed(patches)) @ bank.vectors.T).argmax(1)
    fields, first = [], 0
    for rows, columns in counts:
        chosen = bank.patches[nearest[first : first + rows * columns]]
        grid = chosen.reshape(rows, columns, PATCH, PATCH, 3).swapaxes(1, 2)
        fields.append(np.ascontiguousarray(grid.reshape(rows * PATCH, columns * PATCH, 3)))
        first += rows * columns
    size = math.ceil(len(patches) * bank.bits / 8)
    return Output(size, lambda level: [box_reduce(f, 1 << level) for f in fields], windows=True)


def _units(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
