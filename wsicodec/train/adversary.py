"""A critic of pixels, for training alone: is this tissue, given what is known of it?"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.geometry import LEVELS

SLOPE = 0.2  # of the leaky rectifiers
SHUFFLE = 2  # pixels a side that the first layer takes together


class Critic(nn.Module):
    """Scores of every place at three scales, given parent, embeddings and magnification."""

    def __init__(self, cond: int, width: int = 48) -> None:
        """`cond` is the number of channels of the conditioning map."""
        super().__init__()
        wide = 2 * width
        self.first = nn.Conv2d((3 + 3) * SHUFFLE**2 + 1, width, 3, padding=1)
        self.magnification = nn.Embedding(LEVELS, width)
        self.fine = nn.Conv2d(width, width, 3, padding=1)
        self.down1 = nn.Conv2d(width, wide, 4, 2, 1)
        self.middle = nn.Conv2d(wide, wide, 3, padding=1)
        self.down2 = nn.Conv2d(wide, wide, 4, 2, 1)
        self.cond = nn.Conv2d(cond, wide, 1)
        self.coarse = nn.Conv2d(wide, wide, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(w, 1, 1) for w in (width, wide, wide))

    def forward(
        self, rgb: Tensor, parent: Tensor, has_parent: Tensor, cond: Tensor, mag: Tensor
    ) -> list[Tensor]:
        """Scores (n, 1, h', w') per scale.

        Args:
            rgb: (n, 3, h, w) pixels around [-1, 1], real or drawn; h and w multiples of 32.
            parent: (n, 3, h / 2, w / 2), zeros where there is none.
            has_parent: (n,) 1 or 0.
            cond: (n, d + 1, h / 32, w / 32).
            mag: (n,) magnification index.
        """
        above = F.interpolate(parent, scale_factor=2.0, mode="nearest")
        seen = F.pixel_unshuffle(torch.cat([rgb - above, above], 1), SHUFFLE)
        told = has_parent[:, None, None, None].expand(-1, 1, *seen.shape[2:])
        x = self.first(torch.cat([seen, told], 1))
        x = F.leaky_relu(x + self.magnification(mag)[:, :, None, None], SLOPE)
        fine = F.leaky_relu(self.fine(x), SLOPE)
        x = F.leaky_relu(self.down1(fine), SLOPE)
        middle = F.leaky_relu(self.middle(x), SLOPE)
        known = F.interpolate(self.cond(cond), scale_factor=4.0, mode="nearest")
        x = F.leaky_relu(self.down2(middle) + known, SLOPE)
        coarse = F.leaky_relu(self.coarse(x), SLOPE)
        return [head(f) for head, f in zip(self.heads, (fine, middle, coarse), strict=True)]


def pairing_loss(better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
    """Softplus of how far `worse` outscores `better`, a pair a place (Huang et al. 2024, R3GAN)."""
    terms = [F.softplus(w - b).mean() for b, w in zip(better, worse, strict=True)]
    return torch.stack(terms).mean()


def flatness_loss(scores: Sequence[Tensor], nudged: Sequence[Tensor]) -> Tensor:
    """How much scores move when pixels do: a gradient penalty by differences (Lin et al. 2025)."""
    terms = [(a - b).square().mean() for a, b in zip(scores, nudged, strict=True)]
    return torch.stack(terms).mean()
