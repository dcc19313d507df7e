"""From latents and the level above to pixels: what is known of a place is added to, not redrawn.

    latent --+-> 1/8 --> 1/4 --> 1/2 --> detail --(+)--> rgb
    parent --+----+-------+-------+----> enlarged -/

The parent's pixels enter at every scale and pass around the network enlarged, so that colours and
outlines that it shows stay where they are, and neighbouring windows agree on them.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.geometry import LEVELS
from wsicodec.models.autoencoder import PlainBlock
from wsicodec.models.blocks import from_json, to_json, zeroed

BICUBIC = (-3 / 128, 29 / 128, 111 / 128, -9 / 128)
"""Weights of four neighbours for a place a quarter pixel before the third (Keys 1981, a = -1/2)."""


@dataclass(frozen=True, slots=True)
class RendererConfig:
    """Sizes of a Renderer."""

    latent_channels: int = 16
    widths: tuple[int, int, int] = (32, 64, 96)  # channels at 1/2, 1/4 and 1/8
    blocks: tuple[int, int, int] = (3, 3, 2)  # residual blocks at 1/2, 1/4 and 1/8

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class Renderer(nn.Module):
    """Draws pixels; starts as the parent enlarged."""

    def __init__(self, config: RendererConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth = config.widths
        seen = 3 + 1  # colours, and whether there is a parent
        self.enlarge = _bicubic(nn.Conv2d(3, 12, 5, padding=2, padding_mode="replicate"))
        self.magnification = nn.Embedding(LEVELS, eighth)
        self.first = nn.Conv2d(config.latent_channels + 16 * seen, eighth, 3, padding=1)
        self.see_quarter = nn.Conv2d(4 * seen, quarter, 3, padding=1)
        self.see_half = nn.Conv2d(seen, half, 3, padding=1)
        self.up_quarter = nn.Conv2d(eighth, quarter, 1)
        self.up_half = nn.Conv2d(quarter, half, 1)
        self.at_half, self.at_quarter, self.at_eighth = (
            nn.Sequential(*(PlainBlock(width) for _ in range(count)))
            for width, count in zip(config.widths, config.blocks, strict=True)
        )
        self.last = zeroed(nn.Conv2d(half, 12, 3, padding=1))

    @torch.no_grad()
    def scale_detail(self, gain: float, colours: float) -> None:
        """Multiply the detail by `gain`, and by `colours` how far it then lies from its grey."""
        for values in self.last.parameters():
            detail = gain * values.unflatten(0, (3, 4))
            grey = detail.mean(0, keepdim=True)
            values.copy_((grey + colours * (detail - grey)).flatten(0, 1))

    def forward(self, latent: Tensor, parent: Tensor, has_parent: Tensor, mag: Tensor) -> Tensor:
        """Pixels (n, 3, 8h, 8w) around [-1, 1], not clipped.

        Args:
            latent: (n, c, h, w), standardised.
            parent: (n, 3, 4h, 4w) pixels of the level above in [-1, 1]; zeros where there is none.
            has_parent: (n,) 1 or 0.
            mag: (n,) magnification index.
        """
        flag = has_parent[:, None, None, None]
        above = parent * flag
        seen = torch.cat([above, flag.expand(-1, 1, *parent.shape[2:])], 1)
        x = self.first(torch.cat([latent, F.pixel_unshuffle(seen, 4)], 1))
        x = self.at_eighth(x + self.magnification(mag)[:, :, None, None])
        x = _doubled(self.up_quarter(x)) + self.see_quarter(F.pixel_unshuffle(seen, 2))
        x = _doubled(self.up_half(self.at_quarter(x))) + self.see_half(seen)
        detail = self.last(torch.relu(self.at_half(x)))
        return F.pixel_shuffle(self.enlarge(above) + detail, 2)


def _doubled(x: Tensor) -> Tensor:
    """Enlarged linearly: shuffled channels would weave a lattice of cells into even tissue."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")


@torch.no_grad()
def _bicubic(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution that, shuffled, doubles an image; four children a quarter pixel off."""
    before = torch.tensor([*BICUBIC, 0.0])
    taps = torch.stack([before, before.flip(0)])
    conv.weight.zero_()
    assert conv.bias is not None
    conv.bias.zero_()
    for colour in range(3):
        for row in range(2):
            for column in range(2):
                kernel = taps[row][:, None] * taps[column][None]
                conv.weight[4 * colour + 2 * row + column, colour] = kernel
    return conv
