"""The attention that latent diffusion's U-Net puts between its residual blocks.

    map -> norm -> 1x1 -> tokens -> [self-attention, cross-attention, GEGLU] -> 1x1 -> + map

Vaswani et al. 2017, in the form of Rombach et al. 2022; GEGLU: Shazeer 2020.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Queries of one sequence over keys and values of another; no bias but the output's.

    Without biases an all-zero context gives the output's bias exactly, whatever the queries are.
    """

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map tokens (n, m, width), given (n, k, context_width), to (n, m, width)."""
        q, k, v = (
            flat.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for flat in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class GatedGelu(nn.Module):
    """A linear layer gated by the exact GELU of another (GEGLU)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, m, width) to (n, m, hidden)."""
        value, gate = self.proj(x).chunk(2, -1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and a projection back, through four times the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # The middle one holds the place of a dropout that is never used.
        self.net = nn.Sequential(
            GatedGelu(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, m, width) to the same shape."""
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, each normalised before, added after."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.attn1 = Attention(width, width, heads)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, context_width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map tokens (n, m, width), given (n, k, context_width), to (n, m, width)."""
        normal = self.norm1(x)
        x = x + self.attn1(normal, normal)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the cells of a map, row-major, added to the map."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, context_width, heads)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map (n, width, h, w), given (n, k, context_width), to the same shape."""
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))
