"""The summarizer: a map of embeddings to the conditioning that the U-Net reads at its coarsest."""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from wsicodec.geometry import LEVELS
from wsicodec.models.blocks import ChannelNorm, ResBlock, from_json, to_json


@dataclass(frozen=True, slots=True)
class SummarizerConfig:
    """Sizes of a Summarizer."""

    embedding_width: int = 206  # d of the embedding grid; the map has one channel more
    width: int = 128
    blocks: int = 2

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class Summarizer(nn.Module):
    """A CNN over the conditioning map with the magnification by FiLM; ZoomLDM's, made smaller.

    cond (n, d + 1, h, w) -> 1x1 conv -> residual blocks(magnification) -> norm -> (n, width, h, w)
    """

    def __init__(self, config: SummarizerConfig) -> None:
        super().__init__()
        self.config = config
        self.magnification = nn.Embedding(LEVELS, config.width)
        self.first = nn.Conv2d(config.embedding_width + 1, config.width, 1)
        self.blocks = nn.ModuleList(
            ResBlock(config.width, config.width) for _ in range(config.blocks)
        )
        self.last = ChannelNorm(config.width)

    def forward(self, cond: Tensor, mag: Tensor) -> Tensor:
        """Summarise a conditioning map (n, d + 1, h, w) at magnification indices `mag` (n,)."""
        embedding = torch.nn.functional.silu(self.magnification(mag))
        x = self.first(cond)
        for block in self.blocks:
            x = block(x, embedding)
        out: Tensor = self.last(x)
        return out
