"""Features of a slide for multiple-instance learning, from the summarizer.

The workshop paper's use: the tokens of a few coarse patches stand for a slide, 64 x 512 each where
the embeddings themselves are thousands.
"""

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS
from wsicodec.models.published.vit_summarizer import VitSummarizer
from wsicodec.zoomldm.model import PublishedModel
from wsicodec.zoomldm.windows import window_grid

Floats = NDArray[np.float32]


def summary_bag(
    model: PublishedModel,
    grid: Floats,
    valid: NDArray[np.bool_],
    glass: Floats,
    level: int = LEVELS - 1,
    magnification: int | None = None,
) -> tuple[Floats, NDArray[np.int64]]:
    """The tokens of every patch of a level that holds tissue.

    Args:
        model: the networks.
        grid: (gh, gw, d), the slide's embeddings.
        valid: (gh, gw) whether there is one.
        glass: (d,) for cells that have none.
        level: of the patches; the coarsest gives the fewest.
        magnification: index that the summarizer is told; None for the level's own.

    Returns:
        Features (patches, tokens, width), without the token that stands for the magnification
        alone, and the patches' rows and columns (patches, 2) among those of their level.

    Raises:
        ConfigError: no embeddings at all.
    """
    side = 1 << level
    index = level if magnification is None else magnification
    rows, columns = (-(-n // side) for n in valid.shape)
    tiles = [
        (y, x)
        for y in range(rows)
        for x in range(columns)
        if valid[y * side : (y + 1) * side, x * side : (x + 1) * side].any()
    ]
    if not tiles:
        raise ConfigError("expected a slide with embeddings, got one without tissue")
    first = 1 if isinstance(model.summarizer, VitSummarizer) else 0
    found = [
        model.context(window_grid(grid, valid, level, tile, glass), index)[0, first:]
        for tile in tiles
    ]
    bag: Floats = np.stack([tokens.numpy(force=True) for tokens in found])
    return bag, np.array(tiles, np.int64)
