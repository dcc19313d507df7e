"""Embedding grids to fit a codec to: from slides, or from files of ready features."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError, SlideError
from wsicodec.geometry import PATCH, Region, grid_shape
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Embedder, load_embedder
from wsicodec.slide.opening import open_slide
from wsicodec.slide.scaled import Slide
from wsicodec.slide.tissue import find_tissue
from wsicodec.store.features import read_all

Floats = NDArray[np.float32]
WHITE = 255
HDF5 = (".h5", ".hdf5")


def grids_of(
    bundle: Bundle, sources: Sequence[str | Path], mpp: float | None, backend: str
) -> tuple[list[Floats], Floats | None]:
    """Grids of all sources, and the embedding of glass if the bundle has an embedder.

    Args:
        bundle: whose embeddings they are.
        sources: slides, for bundles with an embedder, or HDF5 files of ready features.
        mpp: of the slides' finest level, over their own.
        backend: runtime of the embedder.

    Raises:
        BundleError: a slide for a bundle without an embedder.
    """
    embed = None if bundle.lacks("embed") else load_embedder(bundle, backend)
    grids = []
    for source in map(Path, sources):
        if source.suffix.lower() in HDF5:
            grids.append(file_grid(source, bundle.embedding_width))
            continue
        if embed is None:
            raise BundleError(
                f"expected HDF5 files of ready features for {bundle.name}, which has no embedder, "
                f"got {source.name}"
            )
        with open_slide(source, mpp=mpp) as slide:
            grids.append(slide_grid(slide, embed, bundle.embedding_width))
    return grids, None if embed is None else glass_embedding(embed)


def slide_grid(slide: Slide, embed: Embedder, width: int) -> Floats:
    """The embeddings (gy, gx, width) of a slide's tissue, zeros elsewhere."""
    tissue = find_tissue(slide).grid
    grid = np.zeros((*grid_shape(slide.shape), width), np.float32)
    for row, columns in enumerate(tissue):
        (found,) = np.nonzero(columns)
        if len(found):
            cells = [Region(row, int(x), row + 1, int(x) + 1).scale_up(PATCH) for x in found]
            grid[row, found] = embed(np.stack([slide.read(cell) for cell in cells]))
    return grid


def file_grid(path: str | Path, width: int) -> Floats:
    """The features (gy, gx, width) of an HDF5 file on the lattice of their own coordinates.

    The lattice's step is the least distance between two columns or two rows, which for patches
    that lie side by side is a patch's side.

    Raises:
        SlideError: no such file, or features of another width.
    """
    vectors, coords = read_all(path, width)
    places = coords[:, ::-1]
    gaps = np.concatenate([np.diff(np.unique(axis)) for axis in places.T])
    step = int(gaps.min()) if len(gaps) else 1
    cells = (places - places.min(0)) // step
    shape = cells.max(0) + 1
    if shape.prod() > 64 * len(vectors) + 4096:
        raise SlideError(
            f"expected features of patches side by side in {path}, but {len(vectors)} of them "
            f"are scattered over {shape[0]} x {shape[1]} steps of {step} px"
        )
    grid = np.zeros((*shape, width), np.float32)
    grid[tuple(cells.T)] = vectors
    return grid


def glass_embedding(embed: Embedder) -> Floats:
    """The embedding (d,) of a patch without tissue."""
    vector: Floats = embed(np.full((1, PATCH, PATCH, 3), WHITE, np.uint8))[0]
    return vector
