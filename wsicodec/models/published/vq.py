"""The VQ-f4 autoencoder of latent diffusion, with its tensor names.

    rgb -> encoder -> quant_conv -> latent          (continuous: encoding never quantises)
    latent -> nearest code -> post_quant_conv -> decoder -> rgb

Esser, Rombach, Ommer 2021 (VQGAN); Rombach et al. 2022. Diffusion is trained on the continuous
latent, so decoding quantises anew every time.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.models.blocks import from_json, to_json

NORM_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class VqConfig:
    """Sizes of a VqAutoencoder; the defaults are VQ-f4, 55,322,782 parameters."""

    latent_channels: int = 3
    codes: int = 8192
    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)  # of the width, from the pixels down
    blocks: int = 2  # residual blocks a grid in the encoder; the decoder has one more

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, width, eps=NORM_EPSILON)


class ResBlock(nn.Module):
    """Two normalised convolutions added to the input."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm1 = _norm(width)
        self.conv1 = nn.Conv2d(width, out_width, 3, padding=1)
        self.norm2 = _norm(out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        if width != out_width:
            self.nin_shortcut = nn.Conv2d(width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to (n, out_width, h, w)."""
        middle = self.conv1(F.silu(self.norm1(x)))
        out = self.conv2(F.silu(self.norm2(middle)))
        return out + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class CellAttention(nn.Module):
    """One head of self-attention over all cells of a map, added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _norm(width)
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        normal = self.norm(x)
        q, k, v = (
            layer(normal).flatten(2).transpose(1, 2)[:, None] for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.proj_out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block_1 = ResBlock(width, width)
        self.attn_1 = CellAttention(width)
        self.block_2 = ResBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Downsample(nn.Module):
    """A convolution of stride 2, padded on the right and at the bottom alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, 2h, 2w) to (n, width, h, w)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest neighbours, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to (n, width, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Grid(nn.Module):
    """The residual blocks of one grid, and what leads to the next one if there is one."""

    def __init__(self, widths: list[int], **to_next: nn.Module) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResBlock(a, b) for a, b in pairwise(widths))
        for name, module in to_next.items():
            self.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks, then change the grid."""
        for layer in self.block:
            x = layer(x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class Encoder(nn.Module):
    """Pixels (n, 3, fh, fw) to what `quant_conv` makes the latent of."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, config.width, 3, padding=1)
        here, self.down = config.width, nn.ModuleList()
        for grid, multiplier in enumerate(config.multipliers):
            out = config.width * multiplier
            last = grid == len(config.multipliers) - 1
            more = {} if last else {"downsample": Downsample(out)}
            self.down.append(Grid([here] + [out] * config.blocks, **more))
            here = out
        self.mid = Middle(here)
        self.norm_out = _norm(here)
        self.conv_out = nn.Conv2d(here, config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode pixels in [-1, 1]."""
        x = self.conv_in(x)
        for grid in self.down:
            x = grid(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """What `post_quant_conv` made of codes, to pixels (n, 3, fh, fw)."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        here = config.width * config.multipliers[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, here, 3, padding=1)
        self.mid = Middle(here)
        grids: list[Grid] = []
        for grid, multiplier in reversed(list(enumerate(config.multipliers))):
            out = config.width * multiplier
            more = {"upsample": Upsample(out)} if grid else {}
            grids.insert(0, Grid([here] + [out] * (config.blocks + 1), **more))
            here = out
        self.up = nn.ModuleList(grids)  # numbered from the pixels down, run the other way
        self.norm_out = _norm(here)
        self.conv_out = nn.Conv2d(here, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Decode to pixels around [-1, 1], not clipped."""
        x = self.mid(self.conv_in(x))
        for grid in reversed(list(self.up)):
            x = grid(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Codebook(nn.Module):
    """The codes and the search for the nearest of them."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.codes, config.latent_channels)

    def nearest(self, latent: Tensor) -> Tensor:
        """Indices (n, h, w) of the codes nearest to (n, c, h, w) in Euclid's distance."""
        codes = self.embedding.weight
        cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
        # The cells' own squares are the same for every code and may be left out.
        found = torch.addmm(codes.square().sum(1), cells, codes.T, alpha=-2).argmin(1)
        return found.view(latent.shape[0], *latent.shape[2:])

    def forward(self, latent: Tensor) -> Tensor:
        """Replace every cell of (n, c, h, w) by the code nearest to it."""
        return self.embedding(self.nearest(latent)).permute(0, 3, 1, 2)


class VqAutoencoder(nn.Module):
    """Pixels to continuous latents; latents through the codebook to pixels."""

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config)
        self.quant_conv = nn.Conv2d(channels, channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    @property
    def factor(self) -> int:
        """Pixels per latent cell, a side."""
        return int(1 << (len(self.config.multipliers) - 1))

    def encode(self, rgb: Tensor) -> Tensor:
        """Map pixels (n, 3, fh, fw) in [-1, 1] to continuous latents (n, c, h, w)."""
        return self.quant_conv(self.encoder(rgb))

    def decode(self, latent: Tensor) -> Tensor:
        """Quantise latents (n, c, h, w) and map them to pixels (n, 3, fh, fw), not clipped."""
        return self.decoder(self.post_quant_conv(self.quantize(latent)))

    def forward(self, rgb: Tensor) -> Tensor:
        """Encode, quantise and decode."""
        return self.decode(self.encode(rgb))
