"""A pixel-shuffle autoencoder: eight pixels a side to one latent cell, cheap enough for two cores.

    rgb -> linear patch projection ---------------(+)-> latent -> linear synthesis ------(+)-> rgb
       +-> convolutions at 1/2, 1/4, 1/8 ----------+         +-> convolutions 1/8, 1/4, 1/2 -+

The linear paths are what principal components of 8x8 patches would be; the convolutions add what
overlaps patches. Everything is convolution with zero padding: no attention, no norm over space.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from wsicodec.models.blocks import from_json, to_json, zeroed

FACTOR = 8  # pixels per latent cell, a side


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """Sizes of a PixelShuffleAutoencoder."""

    latent_channels: int = 8
    widths: tuple[int, int, int] = (32, 64, 128)  # channels at 1/2, 1/4 and 1/8
    encoder_blocks: tuple[int, int, int] = (1, 2, 2)  # residual blocks at 1/2, 1/4 and 1/8
    decoder_blocks: tuple[int, int, int] = (1, 2, 2)

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions around a rectifier, added to the input; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = zeroed(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        return x + self.conv2(torch.relu(self.conv1(torch.relu(x))))


class Encoder(nn.Module):
    """Pixels (n, 3, 8h, 8w) to unnormalised latents (n, c, h, w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.widths
        blocks = config.encoder_blocks
        self.linear = nn.Conv2d(3, config.latent_channels, FACTOR, stride=FACTOR)
        self.stages = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, half, 3, padding=1),
            *(PlainBlock(half) for _ in range(blocks[0])),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * half, quarter, 1),
            *(PlainBlock(quarter) for _ in range(blocks[1])),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * quarter, eighth, 1),
            *(PlainBlock(eighth) for _ in range(blocks[2])),
        )
        self.last = nn.Conv2d(eighth, config.latent_channels, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """Encode pixels in [-1, 1]."""
        correction: Tensor = self.last(torch.relu(self.stages(rgb)))
        return self.linear(rgb) + correction


class Decoder(nn.Module):
    """Unnormalised latents (n, c, h, w) to pixels (n, 3, 8h, 8w)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.widths
        blocks = config.decoder_blocks
        self.linear = nn.Conv2d(config.latent_channels, 3 * FACTOR**2, 1)
        self.unfold = nn.PixelShuffle(FACTOR)
        self.stages = nn.Sequential(
            nn.Conv2d(config.latent_channels, eighth, 3, padding=1),
            *(PlainBlock(eighth) for _ in range(blocks[2])),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            *(PlainBlock(quarter) for _ in range(blocks[1])),
            nn.Conv2d(quarter, 4 * half, 1),
            nn.PixelShuffle(2),
            *(PlainBlock(half) for _ in range(blocks[0])),
            nn.ReLU(),
        )
        self.last = nn.Conv2d(half, 12, 3, padding=1)
        self.finish = nn.PixelShuffle(2)

    def forward(self, latent: Tensor) -> Tensor:
        """Decode to pixels around [-1, 1], not clipped."""
        detail: Tensor = self.finish(self.last(self.stages(latent)))
        return self.unfold(self.linear(latent)) + detail


class PixelShuffleAutoencoder(nn.Module):
    """Encoder, decoder, and the mean and deviation that make latents standard per channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("std", torch.ones(config.latent_channels))
        zeroed(self.encoder.last)
        zeroed(self.decoder.last)

    def encode(self, rgb: Tensor) -> Tensor:
        """Map pixels (n, 3, h, w) in [-1, 1] to standardised latents (n, c, h/8, w/8)."""
        latent: Tensor = self.encoder(rgb)
        return (latent - self.mean[:, None, None]) / self.std[:, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """Map standardised latents (n, c, h, w) to pixels (n, 3, 8h, 8w) around [-1, 1]."""
        rgb: Tensor = self.decoder(latent * self.std[:, None, None] + self.mean[:, None, None])
        return rgb

    def forward(self, rgb: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(rgb))

    @torch.no_grad()
    def start_from_patches(self, patches: Tensor) -> None:
        """Set the linear paths to the principal components of `patches` (n, 3, 8, 8) in [-1, 1].

        Components are scaled to unit variance (Hotelling 1933), so latents start standardised.
        """
        flat = patches.reshape(len(patches), -1).double()
        centre = flat.mean(0)
        values, vectors = torch.linalg.eigh((flat - centre).T @ (flat - centre) / len(flat))
        count = self.config.latent_channels
        scale = values[-count:].flip(0).clamp_min(1e-8).sqrt()
        basis = vectors[:, -count:].flip(1).T
        rows = (basis / scale[:, None]).float()
        self.encoder.linear.weight.copy_(rows.reshape(count, 3, FACTOR, FACTOR))
        self.encoder.linear.bias.copy_(-(rows @ centre.float()))  # type: ignore[union-attr]
        columns = (basis * scale[:, None]).T.float()
        self.decoder.linear.weight.copy_(columns[:, :, None, None])
        self.decoder.linear.bias.copy_(centre.float())  # type: ignore[union-attr]
