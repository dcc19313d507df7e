"""A vision transformer as timm names it, with LayerScale: UNI's ViT-L/16 (Chen et al. 2024).

    patches -> 224 px, bilinear -> ImageNet's mean and deviation -> transformer -> the class token

It differs from `models.vit` in LayerScale (Touvron et al. 2021) and in what is done to pixels.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.models.blocks import from_json, to_json
from wsicodec.models.vit import NORM_EPSILON, Attention, Mlp, PatchEmbed, VitConfig

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of pixels in [0, 1]


@dataclass(frozen=True, slots=True)
class TimmVitConfig:
    """Sizes of a TimmVit; the defaults are UNI's, 303,350,784 parameters."""

    width: int = 1024
    depth: int = 24
    heads: int = 16
    patch: int = 16  # pixels a side of a token
    size: int = 224  # pixels a side of the image that it sees
    mlp_ratio: int = 4
    design: str = "timm"

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)

    @property
    def plain(self) -> VitConfig:
        """The same sizes for the layers that both designs share."""
        return VitConfig(self.width, self.depth, self.heads, self.patch, self.size, self.mlp_ratio)


class LayerScale(nn.Module):
    """A gain per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        return x * self.gamma


class Block(nn.Module):
    """Attention, then MLP, each normalised before, scaled and added after."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        width = config.width
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.attn = Attention(width, config.heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.mlp = Mlp(width, config.mlp_ratio * width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        scaled: Tensor = self.ls2(self.mlp(self.norm2(x)))
        return x + scaled


class TimmVit(nn.Module):
    """Images of one size to one vector each."""

    def __init__(self, config: TimmVitConfig) -> None:
        super().__init__()
        self.config = config
        plain = config.plain
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + plain.cells**2, config.width))
        self.patch_embed = PatchEmbed(plain)
        self.blocks = nn.ModuleList(Block(plain) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images (n, 3, size, size); gives the class token (n, width)."""
        cells = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(len(cells), -1, -1), cells), 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        vectors: Tensor = self.norm(x[:, 0])
        return vectors


def prepare(patches: Tensor, size: int) -> Tensor:
    """Bytes (n, h, w, 3) to what the network sees (n, 3, size, size).

    Bilinear with antialiasing and rounded to whole values, as Pillow reduces bytes.
    """
    pixels = patches.permute(0, 3, 1, 2).float()
    if pixels.shape[2:] != (size, size):
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True).round()
    mean, deviation = (pixels.new_tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
    return (pixels / 255 - mean) / deviation
