"""The summarizer of the workshop paper: four residual blocks, modulated by the magnification.

    grid -> [norm, SiLU, 3x3 stride 2, norm, FiLM, SiLU, 3x3, + skip] x 4 -> norm -> 8 x 8 tokens

Published: four blocks, 128 x 128 x 384 to 8 x 8 x 512, FiLM (Perez et al. 2018) from a projected
magnification. Not published, and chosen here: widths, group norms of 32, where FiLM sits, and that
grids coarser than 128 leave out the strides of the last blocks.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS
from wsicodec.models.blocks import from_json, to_json, zeroed
from wsicodec.models.published.grids import SIDE


@dataclass(frozen=True, slots=True)
class CnnSummarizerConfig:
    """Sizes of a CnnSummarizer."""

    embedding_width: int = 384
    widths: tuple[int, ...] = (512, 512, 512, 512)  # of the blocks; the last is the context's
    film_width: int = 256
    magnifications: int = LEVELS

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class FilmBlock(nn.Module):
    """Pre-activation residual block whose second norm is scaled and shifted."""

    def __init__(self, width: int, out_width: int, film_width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, width)
        self.conv1 = nn.Conv2d(width, out_width, 3, padding=1)
        self.norm2 = nn.GroupNorm(32, out_width)
        self.film = zeroed(nn.Linear(film_width, 2 * out_width))
        self.conv2 = zeroed(nn.Conv2d(out_width, out_width, 3, padding=1))
        self.skip = nn.Conv2d(width, out_width, 1)

    def forward(self, x: Tensor, told: Tensor, stride: int) -> Tensor:
        """Map (n, width, h, w), told (n, film_width), to (n, out_width, h / stride, w / stride)."""
        conv1, skip = self.conv1, self.skip
        middle = F.conv2d(F.silu(self.norm1(x)), conv1.weight, conv1.bias, stride, padding=1)
        gain, shift = self.film(told)[:, :, None, None].chunk(2, 1)
        middle = (1 + gain) * self.norm2(middle) + shift
        straight = F.conv2d(x, skip.weight, skip.bias, stride)
        return cast(Tensor, straight + self.conv2(F.silu(middle)))


class CnnSummarizer(nn.Module):
    """A grid of embeddings and its magnification to 64 tokens of context."""

    def __init__(self, config: CnnSummarizerConfig) -> None:
        super().__init__()
        self.config = config
        film = config.film_width
        self.mag_embedding = nn.Embedding(config.magnifications, film)
        self.projection = nn.Sequential(nn.Linear(film, film), nn.SiLU(), nn.Linear(film, film))
        widths = (config.embedding_width, *config.widths)
        self.blocks = nn.ModuleList(FilmBlock(a, b, film) for a, b in pairwise(widths))
        self.layer_norm = nn.LayerNorm(config.widths[-1])

    def forward(self, grid: Tensor, magnification: Tensor) -> Tensor:
        """Summarise.

        Args:
            grid: (n, embedding_width, h, h), h a power of two up to 8 times 2 to the blocks.
            magnification: (n,) indices, 0 for 20x to 7.

        Returns:
            (n, 64, width), the 8 x 8 cells row-major.
        """
        told = F.silu(self.projection(self.mag_embedding(magnification)))
        strides = block_strides(grid.shape[2], grid.shape[3], len(self.blocks))
        repeats = max(1, SIDE // grid.shape[2])
        x = torch.repeat_interleave(grid, repeats, 2).repeat_interleave(repeats, 3)
        for block, stride in zip(self.blocks, strides, strict=True):
            x = block(x, told, stride)
        return self.layer_norm(x.flatten(2).transpose(1, 2))


def block_strides(height: int, width: int, blocks: int = 4) -> tuple[int, ...]:
    """The stride of every block for a grid of that size: 2 for the first log2(h / 8), then 1."""
    finest = SIDE << blocks
    if height != width or not 0 < height <= finest or height & (height - 1):
        raise ConfigError(
            f"expected a square grid whose side is a power of two up to {finest}, "
            f"got {height} x {width}; pad windows at the slide's edge"
        )
    halvings = max(0, (height // SIDE).bit_length() - 1)
    return (2,) * halvings + (1,) * (blocks - halvings)
