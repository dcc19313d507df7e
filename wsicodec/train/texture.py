"""How much fine detail there is, whatever its place: a loss on octave energies."""

import torch
import torch.nn.functional as F
from torch import Tensor

from wsicodec.models.octaves import octaves

POOL = 8  # cells a side of an octave over which an energy is taken; the whole is taken as well
CONTRAST = 8.0  # brings the octaves of grey tissue to about unit deviation
FAINT = 0.03  # what makes glass no worse than it is
CHROMA = 2.0  # brings the octaves of differences of colours nearer to those of grey


def grey(rgb: Tensor) -> Tensor:
    """Means of the colours, (n, 1, h, w)."""
    return rgb.mean(1, keepdim=True)


def chroma(rgb: Tensor) -> Tensor:
    """Red and blue over green, (n, 2, h, w).

    Tissue has little detail in them: two stains share their places, and scanners blur colours.
    """
    red, green, blue = rgb.split(1, 1)
    return torch.cat([red - green, blue - green], 1) * CHROMA


def texture_loss(ours: Tensor, real: Tensor) -> Tensor:
    """How far local energies and magnitudes of octaves are off, as mean absolute log ratio.

    The mean of a posterior has too little of both, a sample of a poor one too little magnitude for
    its energy: tissue is sparse, noise is not. Nothing here asks for detail at the right place.

    Args:
        ours: (n, c, h, w) pixels in [-1, 1].
        real: what it should look like.
    """
    terms = []
    for bands in zip(octaves(ours * CONTRAST), octaves(real * CONTRAST), strict=True):
        for measure in (torch.square, torch.abs):
            mine, theirs = (measure(b) for b in bands)
            for side in (POOL, mine.shape[-1]):
                near, wanted = F.avg_pool2d(mine, side), F.avg_pool2d(theirs, side)
                terms.append((torch.log(near + FAINT) - torch.log(wanted + FAINT)).abs().mean())
    return torch.stack(terms).mean()
