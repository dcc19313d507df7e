"""Networks whose answers are known in closed form, in the published model's places."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from wsicodec.diffusion.trained_steps import alpha_bars, square_root_linear
from wsicodec.zoomldm.model import PublishedModel

SIDE = 16  # cells and pixels of a patch: latents are pixels here
TABLE = alpha_bars(square_root_linear())


class Same(nn.Module):
    """An autoencoder whose latents are the pixels."""

    factor = 1

    def encode(self, rgb: Tensor) -> Tensor:
        return rgb

    def decode(self, latent: Tensor) -> Tensor:
        return latent


class Tokens(nn.Module):
    """A summarizer that passes its grid on as tokens, of any magnification."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(magnifications=8, embedding_width=width)

    def forward(self, grid: Tensor, magnification: Tensor) -> Tensor:
        return grid.flatten(2).transpose(1, 2)


class Gaussian(nn.Module):
    """The exact noise for data N(mean of the context's first three values, deviation^2)."""

    def __init__(self, deviation: float = 1.0) -> None:
        super().__init__()
        self.config = SimpleNamespace(latent_channels=3, magnifications=0)
        self.deviation = deviation
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, told: Any = None) -> Tensor:
        kept = torch.tensor(TABLE, dtype=x.dtype)[t][:, None, None, None]
        mean = context[:, :, :3].mean(1)[:, :, None, None]
        spread = kept * self.deviation**2 + 1 - kept
        return (1 - kept).sqrt() / spread * (x - kept.sqrt() * mean)


def model(deviation: float = 1.0, width: int = 3, **changes: Any) -> PublishedModel:
    """A model of patches of 16 x 16 cells of independent Gaussian pixels."""
    unet = changes.get("unet") or Gaussian(deviation)
    parts: Any = (Tokens(width), unet, Same())
    made = PublishedModel(parts, TABLE, changes.get("normalise", lambda grid: grid))
    made.patch = SIDE
    return made
