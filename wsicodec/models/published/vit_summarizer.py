"""The summarizer of the CVPR 2025 release: a transformer over 64 slots and a magnification token.

    grid -> linear -> 64 slots, padded -> [magnification, slots] + positions -> 12 blocks
         -> norm -> linear -> norm -> 65 tokens

Tensor names are the release's (`EmbeddingViT2_5` over torchvision's encoder).
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.models.blocks import from_json, to_json

SLOTS = 64
NORM_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class VitSummarizerConfig:
    """Sizes of a VitSummarizer; the defaults are the release's, 38,656,000 parameters."""

    embedding_width: int = 1024
    width: int = 512
    depth: int = 12
    heads: int = 8
    mlp_ratio: int = 4
    magnifications: int = 8

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class SelfAttention(nn.Module):
    """Self-attention with the tensor names of PyTorch's multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then MLP, each normalised before and added after."""

    def __init__(self, config: VitSummarizerConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.ln_1 = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.self_attention = SelfAttention(width, config.heads)
        self.ln_2 = nn.LayerNorm(width, eps=NORM_EPSILON)
        # The third holds the place of a dropout that is never used.
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, tokens, width) to the same shape."""
        x = x + self.self_attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Encoder(nn.Module):
    """Positions, blocks and a norm."""

    def __init__(self, config: VitSummarizerConfig) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.zeros(1, SLOTS + 1, config.width))
        self.layers = nn.ModuleDict(
            {f"encoder_layer_{i}": Block(config) for i in range(config.depth)}
        )
        self.ln = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        nn.init.normal_(self.pos_embedding, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, 65, width) to the same shape."""
        x = x + self.pos_embedding
        for block in self.layers.values():
            x = block(x)
        return self.ln(x)


class VitSummarizer(nn.Module):
    """A standardised grid of embeddings and its magnification to 65 tokens of context."""

    def __init__(self, config: VitSummarizerConfig) -> None:
        super().__init__()
        self.config = config
        self.pad_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.mag_embedding = nn.Embedding(config.magnifications, config.width)
        self.dim_reduce = nn.Linear(config.embedding_width, config.width)
        self.encoder = Encoder(config)
        self.final_proj = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width)

    def place(self, grid: Tensor) -> Tensor:
        """Lay a grid (n, c, h, w) into the slots: (n, 64, width), padded where nothing lies."""
        begin, end = occupied_slots(*grid.shape[2:])
        tokens = self.dim_reduce(grid.flatten(2).transpose(1, 2))
        pads = self.pad_token.expand(len(grid), SLOTS, -1)
        return torch.cat((pads[:, :begin], tokens, pads[:, end:]), 1)

    def forward(self, grid: Tensor, magnification: Tensor) -> Tensor:
        """Summarise.

        Args:
            grid: (n, embedding_width, h, w), pooled to 8 x 8 at most and standardised.
            magnification: (n,) indices, 0 for 20x to 7.

        Returns:
            (n, 65, width); token 0 stands for the magnification. Never zeroed at random: that is
            the training's business.
        """
        first = self.mag_embedding(magnification)[:, None]
        tokens = self.encoder(torch.cat((first, self.place(grid)), 1))
        return self.layer_norm(self.final_proj(tokens))


def occupied_slots(height: int, width: int) -> tuple[int, int]:
    """The slots, first to one past the last, that a grid of h x w embeddings fills.

    One embedding lies in slot 32; an even number n lies around the middle; 64 fill all. Other odd
    numbers have no place in the release, which fails on them, and are refused.
    """
    count = height * width
    if count == 1:
        return SLOTS // 2, SLOTS // 2 + 1
    if not 0 < count <= SLOTS or count % 2:
        raise ConfigError(
            f"expected a grid of one embedding or of an even number up to {SLOTS}, "
            f"got {height} x {width}; pool finer grids to 8 x 8"
        )
    return SLOTS // 2 - count // 2, SLOTS // 2 + count // 2
