"""Box octaves of tensors; `wsicodec.metrics.pictures` has those of pictures that are judged."""

import torch.nn.functional as F
from torch import Tensor

OCTAVES = 3


def octaves(images: Tensor, count: int = OCTAVES) -> list[Tensor]:
    """Box octaves (n, c, h / 2**i, w / 2**i), finest first: what each halving takes away."""
    bands = []
    for _ in range(count):
        coarse = F.avg_pool2d(images, 2)
        bands.append(images - F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        images = coarse
    return bands
