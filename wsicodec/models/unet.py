"""The small family's U-Net: convolutions alone, so that neighbouring windows agree."""

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.geometry import LEVELS
from wsicodec.models.blocks import (
    ChannelNorm,
    ResBlock,
    framed,
    from_json,
    sinusoids,
    to_json,
    zeroed,
)


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """Sizes of a UNet."""

    latent_channels: int = 16
    parent_channels: int = 48  # 3 colours of 4x4 parent pixels under a latent cell
    widths: tuple[int, int, int] = (64, 128, 192)  # on the latent grid, a half and a quarter of it
    down_blocks: tuple[int, int, int] = (1, 1, 3)
    up_blocks: tuple[int, int, int] = (2, 1, 1)
    embedding: int = 256  # of time, step, magnification and whether there is a parent
    cond: int = 128  # channels of the summarizer's map

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class UNet(nn.Module):
    """Residual U-Net with added (not stacked) skips; conditioning enters at the coarsest grid.

    inputs -> conv -> [blocks] -> down -> [blocks] -> down -> [blocks(cond)] -> up ... -> out
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths
        self.embed = nn.Sequential(
            nn.Linear(2 * 32 + 1, config.embedding),
            nn.SiLU(),
            nn.Linear(config.embedding, config.embedding),
        )
        self.magnification = nn.Embedding(LEVELS, config.embedding)
        channels = config.latent_channels + config.parent_channels + 1
        self.first = framed(channels, fine)
        self.down1 = nn.Conv2d(fine, middle, 2, stride=2)
        self.down2 = nn.Conv2d(middle, coarse, 2, stride=2)
        self.add_cond = nn.Conv2d(config.cond, coarse, 1)
        self.up2 = nn.Conv2d(coarse, 4 * middle, 1)
        self.up1 = nn.Conv2d(middle, 4 * fine, 1)
        widths = config.widths
        self.down = nn.ModuleList(
            self._blocks(w, n) for w, n in zip(widths, config.down_blocks, strict=True)
        )
        self.up = nn.ModuleList(
            self._blocks(w, n) for w, n in zip(widths, config.up_blocks, strict=True)
        )
        self.norm = ChannelNorm(fine)
        self.last = zeroed(framed(fine, config.latent_channels))

    def _blocks(self, width: int, count: int) -> nn.ModuleList:
        cond = self.config.cond if width == self.config.widths[-1] else 0
        return nn.ModuleList(ResBlock(width, self.config.embedding, cond) for _ in range(count))

    def modulation(self, t: Tensor, dt: Tensor, has_parent: Tensor, mag: Tensor) -> Tensor:
        """The vector (n, embedding) that every block is modulated by."""
        told = torch.cat([sinusoids(t * 0.5, 32), sinusoids(dt * 0.5, 32), has_parent[:, None]], 1)
        return F.silu(self.embed(told) + self.magnification(mag))

    def forward(self, inputs: Tensor, modulation: Tensor, cond: Tensor) -> Tensor:
        """Map noisy latent, parent and flag (n, c + 48 + 1, h, w) to (n, c, h, w).

        Args:
            inputs: stacked; h and w are multiples of 4.
            modulation: (n, embedding).
            cond: (n, cond, h / 4, w / 4), the summarizer's map.
        """
        fine = _run(self.down[0], self.first(inputs), modulation)
        middle = _run(self.down[1], self.down1(fine), modulation)
        x = self.down2(middle) + self.add_cond(cond)
        x = _run(self.down[2], x, modulation, cond)
        x = _run(self.up[2], x, modulation, cond)
        x = _run(self.up[1], middle + F.pixel_shuffle(self.up2(x), 2), modulation)
        x = _run(self.up[0], fine + F.pixel_shuffle(self.up1(x), 2), modulation)
        out: Tensor = self.last(F.silu(self.norm(x)))
        return out


def _run(blocks: nn.Module, x: Tensor, modulation: Tensor, cond: Tensor | None = None) -> Tensor:
    for block in blocks.children():
        x = block(x, modulation, cond)
    return x
