"""A critic of pixels, for training alone: is this tissue, given the embeddings of its place?

It is not shown the parent: that a picture follows its parent is asked for by a distance, and a
critic that saw both would spend itself on how the anchor's codec errs.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.geometry import LEVELS

SLOPE = 0.2  # of the leaky rectifiers
SHUFFLE = 2  # pixels a side that the first layer takes together
COARSE = 4  # pixels a side below whose means everything is detail
CONTRAST = 8.0  # brings the detail of tissue to about unit deviation


class Critic(nn.Module):
    """Scores of every place at three scales, given embeddings and magnification."""

    def __init__(self, cond: int, width: int = 48) -> None:
        """`cond` is the number of channels of the conditioning map."""
        super().__init__()
        wide = 2 * width
        self.first = nn.Conv2d(2 * 3 * SHUFFLE**2, width, 3, padding=1)
        self.magnification = nn.Embedding(LEVELS, width)
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.down1 = nn.Conv2d(width, wide, 4, 2, 1)
        self.middle = nn.Conv2d(wide, wide, 3, padding=1)
        self.down2 = nn.Conv2d(wide, wide, 4, 2, 1)
        self.cond = nn.Conv2d(cond, wide, 1)
        self.coarse = nn.Conv2d(wide, wide, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in (width, wide, wide))

    def forward(self, rgb: Tensor, cond: Tensor, mag: Tensor) -> list[Tensor]:
        """Scores (n, 1, h', w') per scale; see `features`."""
        return self.scores(self.features(rgb, cond, mag))

    def scores(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Scores (n, 1, h', w') of what `features` found."""
        return [head(f) for head, f in zip(self.heads, features, strict=True)]

    def features(self, rgb: Tensor, cond: Tensor, mag: Tensor) -> list[Tensor]:
        """What is seen at a half, a quarter and an eighth of the pixels, (n, w, h', w') each.

        Args:
            rgb: (n, 3, h, w) pixels around [-1, 1], real or drawn; h and w multiples of 8.
            cond: (n, d + 1, h / 8, w / 8).
            mag: (n,) magnification index.
        """
        means = F.interpolate(F.avg_pool2d(rgb, COARSE), scale_factor=float(COARSE))
        detail = (rgb - means) * CONTRAST  # else colours, which both have, drown it
        x = self.first(F.pixel_unshuffle(torch.cat([rgb, detail], 1), SHUFFLE))
        x = F.leaky_relu(x + self.magnification(mag)[:, :, None, None], SLOPE)
        fine = F.leaky_relu(self.fine(x), SLOPE)
        x = F.leaky_relu(self.down1(fine), SLOPE)
        middle = F.leaky_relu(self.middle(x), SLOPE)
        x = F.leaky_relu(self.down2(middle) + self.cond(cond), SLOPE)
        coarse = F.leaky_relu(self.coarse(x), SLOPE)
        return [fine, middle, coarse]


def pairing_loss(better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
    """Softplus of how far `worse` outscores `better`, a pair a place (Huang et al. 2024, R3GAN)."""
    terms = [F.softplus(w - b).mean() for b, w in zip(better, worse, strict=True)]
    return torch.stack(terms).mean()


def matching_loss(ours: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """How far the critic sees other things, over how much it sees (Wang et al. 2018, pix2pixHD)."""
    terms = [(a - b).abs().mean() / b.abs().mean() for a, b in zip(ours, real, strict=True)]
    return torch.stack(terms).mean()


def flatness_loss(scores: Sequence[Tensor], nudged: Sequence[Tensor]) -> Tensor:
    """How much scores move when pixels do: a gradient penalty by differences (Lin et al. 2025)."""
    terms = [(a - b).square().mean() for a, b in zip(scores, nudged, strict=True)]
    return torch.stack(terms).mean()
