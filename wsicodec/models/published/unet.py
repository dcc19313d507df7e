"""Latent diffusion's U-Net as CompVis `cin256-v2` and ZoomLDM have it, with their tensor names.

    x, t, context -> input_blocks -> middle_block -> output_blocks (skips stacked) -> out -> eps

Ho, Jain, Abbeel 2020 and Dhariwal & Nichol 2021 for the plan, Rombach et al. 2022 for the
transformers.
"""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.models.blocks import from_json, to_json, zeroed
from wsicodec.models.published.attention import SpatialTransformer

MAX_PERIOD = 10_000.0  # steps, of the slowest sinusoid


@dataclass(frozen=True, slots=True)
class LdmUNetConfig:
    """Sizes of an LdmUNet; the defaults are the published ones, 400,920,579 parameters."""

    latent_channels: int = 3
    width: int = 192
    multipliers: tuple[int, ...] = (1, 2, 3, 5)  # of the width, from the finest grid down
    attention: tuple[bool, ...] = (False, True, True, True)  # of each grid
    blocks: int = 2  # residual blocks a grid on the way down; one more on the way up
    heads: int = 1
    context_width: int = 512
    magnifications: int = 0  # entries of the magnification table; 0 for none, as published

    def __post_init__(self) -> None:
        grids = len(self.multipliers)
        if not grids or len(self.attention) != grids or min(self.multipliers) < 1:
            raise ConfigError(f"expected a multiplier and an attention flag per grid, got {self}")
        if self.width < 1 or self.width % 32 or self.width % self.heads:
            raise ConfigError(f"expected a width divisible by 32 and by the heads, got {self}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return to_json(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return from_json(cls, record)


class ResBlock(nn.Module):
    """Two normalised convolutions; the time is added between them, the input after them."""

    def __init__(self, width: int, out_width: int, time_width: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, out_width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, out_width))
        # The third holds the place of a dropout that is never used.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_width),
            nn.SiLU(),
            nn.Identity(),
            zeroed(nn.Conv2d(out_width, out_width, 3, padding=1)),
        )
        same = width == out_width
        self.skip_connection = nn.Identity() if same else nn.Conv2d(width, out_width, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map (n, width, h, w), told (n, time_width), to (n, out_width, h, w)."""
        middle = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(middle)


class Downsample(nn.Module):
    """A convolution of stride 2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, 2h, 2w) to (n, width, h, w)."""
        return self.op(x)


class Upsample(nn.Module):
    """Nearest neighbours, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to (n, width, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.ModuleList):
    """Layers in a row, each given what it takes of time and context."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor) -> Tensor:
        """Run the layers on (n, c, h, w)."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, time)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x


class LdmUNet(nn.Module):
    """Noise in a latent, from the latent, the trained step and the context tokens."""

    def __init__(self, config: LdmUNetConfig) -> None:
        super().__init__()
        self.config = config
        time_width, first = 4 * config.width, config.width * config.multipliers[0]
        self.time_embed = nn.Sequential(
            nn.Linear(config.width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        if config.magnifications:
            self.label_emb = zeroed(nn.Embedding(config.magnifications, time_width))
        self.input_blocks = nn.ModuleList(
            [Stage([nn.Conv2d(config.latent_channels, config.width, 3, padding=1)])]
        )
        skips = self._add_way_down()
        deep = skips[-1]
        self.middle_block = Stage(
            [ResBlock(deep, deep, time_width), self._attend(deep), ResBlock(deep, deep, time_width)]
        )
        self.output_blocks = nn.ModuleList()
        self._add_way_up(skips)
        last = zeroed(nn.Conv2d(first, config.latent_channels, 3, padding=1))
        self.out = nn.Sequential(nn.GroupNorm(32, first), nn.SiLU(), last)

    def _attend(self, width: int) -> SpatialTransformer:
        return SpatialTransformer(width, self.config.context_width, self.config.heads)

    def _block(self, width: int, grid: int, out: int) -> Stage:
        layers: list[nn.Module] = [ResBlock(width, out, 4 * self.config.width)]
        if self.config.attention[grid]:
            layers.append(self._attend(out))
        return Stage(layers)

    def _add_way_down(self) -> list[int]:
        """Append the input blocks; gives the widths of all skips, the first conv's included."""
        here, skips = self.config.width, [self.config.width]
        for grid, multiplier in enumerate(self.config.multipliers):
            out = self.config.width * multiplier
            for _ in range(self.config.blocks):
                self.input_blocks.append(self._block(here, grid, out))
                here = out
                skips.append(here)
            if grid < len(self.config.multipliers) - 1:
                self.input_blocks.append(Stage([Downsample(here)]))
                skips.append(here)
        return skips

    def _add_way_up(self, skips: list[int]) -> None:
        here = skips[-1]
        for grid, multiplier in reversed(list(enumerate(self.config.multipliers))):
            out = self.config.width * multiplier
            for index in range(self.config.blocks + 1):
                stage = self._block(here + skips.pop(), grid, out)
                here = out
                if grid and index == self.config.blocks:
                    stage.append(Upsample(here))
                self.output_blocks.append(stage)

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor, magnification: Tensor | None = None
    ) -> Tensor:
        """Estimate the noise.

        Args:
            x: noisy latents (n, c, h, w); h and w are multiples of 2 to the (grids - 1).
            t: trained steps (n,), 0 to 999.
            context: tokens (n, k, context_width) of the summarizer; zeros are the null condition.
            magnification: indices (n,), 0 for 20x; asked for exactly if the table is there.
        """
        if (magnification is None) == bool(self.config.magnifications):
            wanted = "a" if self.config.magnifications else "no"
            raise ConfigError(f"these weights take {wanted} magnification beside the context")
        time = self.time_embed(step_sinusoids(t, self.config.width))
        if magnification is not None:
            time = time + self.label_emb(magnification)
        skips = []
        for stage in self.input_blocks:
            x = stage(x, time, context)
            skips.append(x)
        x = self.middle_block(x, time, context)
        for stage in self.output_blocks:
            x = stage(torch.cat((x, skips.pop()), 1), time, context)
        return self.out(x)


def step_sinusoids(t: Tensor, width: int) -> Tensor:
    """Cosines, then sines, of steps (n,): (n, width) (Ho et al. 2020; Vaswani et al. 2017)."""
    half = width // 2
    decay = -math.log(MAX_PERIOD) / half
    frequencies = torch.exp(decay * torch.arange(half, dtype=torch.float32, device=t.device))
    angles = t.float()[:, None] * frequencies
    return torch.cat((angles.cos(), angles.sin()), 1)
