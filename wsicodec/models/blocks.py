"""Layers that several networks share; all commute with shifts of the plane."""

import dataclasses
import math
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wsicodec.errors import ConfigError

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of every pixel (Zhang & Sennrich 2019).

    Nothing is averaged over the plane, so a window's values never depend on its far end.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        power = x.square().mean(1, keepdim=True)
        return x * torch.rsqrt(power + 1e-6) * self.weight[:, None, None]


class ResBlock(nn.Module):
    """Residual block whose middle is scaled and shifted (FiLM: Perez et al. 2018).

    x -> norm -> conv -> (1 + scale) * h + shift -> SiLU -> conv -> + x, starting as the identity.
    """

    def __init__(self, width: int, embedding: int, cond: int = 0) -> None:
        """`embedding` is the width of the vector that modulates; `cond`, of a map that does too."""
        super().__init__()
        self.norm = ChannelNorm(width)
        self.conv1 = framed(width, width)
        self.film = nn.Linear(embedding, 2 * width)
        self.film_map = nn.Conv2d(cond, 2 * width, 1) if cond else None
        self.conv2 = zeroed(framed(width, width))

    def forward(self, x: Tensor, embedding: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map (n, width, h, w), modulated by (n, embedding) and perhaps by (n, cond, h, w)."""
        film = self.film(embedding)[:, :, None, None]
        if self.film_map is not None:
            film = film + self.film_map(cond)
        scale, shift = film.chunk(2, 1)
        middle = self.conv1(self.norm(x)) * (1 + scale) + shift
        out: Tensor = x + self.conv2(torch.nn.functional.silu(middle))
        return out


def framed(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution around which the border repeats.

    A window ends where tissue goes on: zeros there would be seen, and drawn, as something else.
    """
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate")


def zeroed(module: M) -> M:
    """The module with all parameters zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def channels_last(module: M) -> M:
    """The module with its kernels laid out channels last, which is fastest on CPUs and GPUs."""
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def sinusoids(values: Tensor, width: int) -> Tensor:
    """Sines and cosines of (n,) values in [0, 1] at octave frequencies: (n, width), width even."""
    turns = math.pi * 2.0 ** torch.arange(width // 2, device=values.device)
    angles = values[:, None] * turns
    return torch.cat([angles.sin(), angles.cos()], 1)


def to_json(config: Any) -> dict[str, Any]:
    """A JSON-safe copy of a frozen configuration; `from_json` is its inverse."""
    record: dict[str, Any] = dataclasses.asdict(config)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in record.items()}


def from_json(kind: type[T], record: dict[str, Any]) -> T:
    """Read a configuration of type `kind`; raises ConfigError on unknown or missing keys."""
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})
    except TypeError as error:
        raise ConfigError(
            f"expected the settings of a {kind.__name__}, got {record}: {error}"
        ) from error
