"""A vision transformer with the tensor names and the position interpolation of HIPT's ViT-256.

    images -> patch_embed -> [cls_token, cells] + pos_embed -> blocks -> norm -> the class token
    images -> stain statistics, where the configuration wants them behind it

Pre-norm, qkv with bias, exact GELU, no LayerScale (Dosovitskiy et al. 2021, in DINO's form, Caron
et al. 2021; Chen et al. 2022 for HIPT).
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.models.stain_statistics import STATISTICS, StainStatistics

NORM_EPSILON = 1e-6
POSITION_OFFSET = 0.1  # cells; DINO adds it before it divides, and weights are used to it


@dataclass(frozen=True, slots=True)
class VitConfig:
    """Sizes of a VisionTransformer; the defaults are ViT-S/16, HIPT's first stage."""

    width: int = 384
    depth: int = 12
    heads: int = 6
    patch: int = 16  # pixels a side of what becomes one token
    train_size: int = 224  # pixels a side that the position table was made for
    mlp_ratio: int = 4
    statistics: int = 0  # stain statistics behind the class token: none, or STATISTICS

    def __post_init__(self) -> None:
        fits = min(dataclasses.astuple(self)[:-1]) > 0
        if not fits or self.width % self.heads or self.train_size % self.patch:
            raise ConfigError(
                "expected positive sizes, a width divisible by the heads and a training size "
                f"divisible by the patch, got {self}"
            )
        if self.statistics not in (0, STATISTICS):
            raise ConfigError(f"expected 0 or {STATISTICS} stain statistics, got {self.statistics}")

    @property
    def cells(self) -> int:
        """Tokens a side of an image of the training size."""
        return self.train_size // self.patch

    @property
    def embedding_width(self) -> int:
        """Values of the vector that an image becomes."""
        return self.width + self.statistics

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        try:
            return cls(**record)
        except TypeError as error:
            raise ConfigError(f"expected a transformer configuration, got {record}") from error


class Attention(nn.Module):
    """Self-attention over all tokens; queries, keys and values in that order in one projection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class Mlp(nn.Module):
    """Two layers around an exact GELU."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class Block(nn.Module):
    """Attention, then MLP, each normalised before and added after."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.attn = Attention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.mlp = Mlp(config.width, config.mlp_ratio * config.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        x = x + self.attn(self.norm1(x))
        return cast(Tensor, x + self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Pixels (n, 3, h, w) to one token per patch, row-major: (n, tokens, width)."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch, config.patch)

    def forward(self, images: Tensor) -> Tensor:
        """Project every patch."""
        return cast(Tensor, self.proj(images)).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """Images to one vector each; `config` says how large."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.cells**2, config.width))
        self.patch_embed = PatchEmbed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self.stains = StainStatistics() if config.statistics else None
        self.apply(_start)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def positions(self, height: int, width: int) -> Tensor:
        """The position table (1, 1 + tokens, width) of images of that many pixels a side.

        Bicubic, with the scale factors (cells + 0.1) / trained cells instead of the exact ratio:
        that is what DINO's published weights were always run with. The class token's row stays.
        """
        patch, trained = self.config.patch, self.config.cells
        if height % patch or width % patch or not height or not width:
            raise ConfigError(f"expected sides divisible by {patch}, got {height} x {width}")
        if (height, width) == (trained * patch, trained * patch):
            return self.pos_embed
        table = self.pos_embed[:, 1:].unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
        scale = [(side // patch + POSITION_OFFSET) / trained for side in (height, width)]
        table = F.interpolate(table, scale_factor=scale, mode="bicubic", align_corners=False)
        return torch.cat((self.pos_embed[:, :1], table.permute(0, 2, 3, 1).flatten(1, 2)), 1)

    def at_size(self, side: int) -> "VisionTransformer":
        """An equal network whose position table is made for `side` pixels, for export."""
        other = VisionTransformer(dataclasses.replace(self.config, train_size=side))
        state = dict(self.state_dict())
        state["pos_embed"] = self.positions(side, side).detach().clone()
        other.load_state_dict(state)
        return other.train(self.training)

    def start_from_pixels(self, patches: Tensor) -> None:
        """Set the first layer to whitened principal components of patches (n, 3, patch, patch).

        Each component then has the deviation of a default start; signs follow the eigenvectors.
        """
        flat = patches.flatten(1).double()
        mean = flat.mean(0)
        values, vectors = torch.linalg.eigh(torch.cov((flat - mean).T))
        width = min(self.config.width, len(values))
        kept = vectors[:, -width:] / values[-width:].clamp_min(1e-6).sqrt()
        weight, bias = self.patch_embed.proj.weight, self.patch_embed.proj.bias
        assert bias is not None
        with torch.no_grad():
            weight[:width] = (kept.T / math.sqrt(3)).unflatten(1, weight.shape[1:]).to(weight)
            bias[:width] = -(weight[:width].flatten(1).double() @ mean).to(bias)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (n, 3, h, w) in [-1, 1]; gives (n, width + statistics)."""
        token = self.token(images)
        return token if self.stains is None else torch.cat((token, self.stains(images)), 1)

    def token(self, images: Tensor) -> Tensor:
        """The normalised class token (n, width) of images (n, 3, h, w) in [-1, 1]."""
        cells = self.patch_embed(images)
        x = torch.cat((self.cls_token.expand(cells.shape[0], -1, -1), cells), 1)
        x = x + self.positions(images.shape[2], images.shape[3])
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x[:, 0]))


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
