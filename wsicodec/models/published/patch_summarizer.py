r"""The condition of Large-Image-Diffusion (Graikos et al. 2024): the patch's own embedding.

    embedding of length 1 -> patch_fc --\
    embedding of the region -> region_fc -> 2 tokens

The region's embedding was zeros in every published use, so its token is the layer's bias; here it
is that always. Tensor names are the release's (`SSLEmbedder`).
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.models.blocks import from_json, to_json


@dataclass(frozen=True, slots=True)
class PatchSummarizerConfig:
    """Sizes of a PatchSummarizer; the defaults are those of `brca_hipt_20x`."""

    embedding_width: int = 384
    region_width: int = 768
    width: int = 512
    magnifications: int = 1  # 20x

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class PatchSummarizer(nn.Module):
    """One embedding to two tokens of context."""

    def __init__(self, config: PatchSummarizerConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_fc = nn.Linear(config.embedding_width, config.width)
        self.region_fc = nn.Linear(config.region_width, config.width)

    def forward(self, grid: Tensor, magnification: Tensor) -> Tensor:  # noqa: ARG002
        """Project.

        Args:
            grid: (n, embedding_width, 1, 1), of length 1 each; zeros are the null condition.
            magnification: (n,); there is only one.

        Returns:
            (n, 2, width).
        """
        if grid.shape[2:] != (1, 1):
            raise ConfigError(
                f"expected one embedding under a patch of 20x, got {tuple(grid.shape[2:])}; "
                "this model draws no other magnification"
            )
        patch = self.patch_fc(grid[:, :, 0, 0])
        region = self.region_fc(grid.new_zeros(len(grid), self.config.region_width))
        return torch.stack((patch, region), 1)

    def null(self, count: int) -> Tensor:
        """The null condition (count, 2, width): zeros before the projection, not after it."""
        weight = self.patch_fc.weight
        return self(weight.new_zeros(count, weight.shape[1], 1, 1), weight.new_zeros(count))
