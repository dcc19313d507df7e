"""What happens to a window's embeddings before a published summarizer sees them.

A grid is (n, c, h, w): row-major, heights before widths, one embedding per 256 px of 20x.
"""

import torch.nn.functional as F
from torch import Tensor

from wsicodec.errors import ConfigError

SIDE = 8  # cells a side of the finest grid that a summarizer reads
DEVIATION_EPSILON = 1e-8


def pool(grid: Tensor) -> Tensor:
    """Average a grid (n, c, h, w) finer than 8 x 8 down to 8 x 8; a coarser one stays.

    Sides beyond 8 must be multiples of it, so that every mean is over whole cells.
    """
    height, width = grid.shape[2:]
    if height <= SIDE and width <= SIDE:
        return grid
    if height % SIDE or width % SIDE:
        raise ConfigError(
            f"expected grid sides up to {SIDE} or multiples of it, got {height} x {width}; "
            "cut windows on the lattice of their magnification"
        )
    return F.avg_pool2d(grid, (height // SIDE, width // SIDE))


def standardise(grid: Tensor) -> Tensor:
    """Give every embedding of (n, c, h, w) mean 0 and deviation 1 over its channels, in float32.

    The deviation is the unbiased one. The released loader does this after pooling and in half
    precision, where its 1e-8 is zero and a constant vector becomes NaN; here it becomes zero.
    """
    grid = grid.float()
    deviation = grid.std(1, keepdim=True)
    return (grid - grid.mean(1, keepdim=True)) / (deviation + DEVIATION_EPSILON)


def normalise_length(grid: Tensor) -> Tensor:
    """Give every embedding of (n, c, h, w) length 1, as Large-Image-Diffusion does; zeros stay."""
    return F.normalize(grid.float(), dim=1)


RULES = {"standardise": standardise, "length": normalise_length}  # by a bundle's `normalisation`
