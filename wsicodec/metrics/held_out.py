"""The held-out encoder: a small convolutional network of ours whose features judge pictures.

It was trained on other objectives than the embedder that conditions the decoder: telling crops of
one window from all others, which degradation a crop went through and how strongly, and how far the
tissue is magnified. It must never take part in training a decoder: a judge who also coaches is no
judge.

Its features are means over the plane, so it is weak where the detail's spectrum is right and its
phases are random: such texture is a third as far away as a blur of 0.7 px (`scrambled` in
`benchmarks/results/held_out.csv`), and the kurtosis of octaves has to find it.

The weights lie beside this file as safetensors; `held_out.json` says how they were made.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import BundleError

FLOOR = 0.01  # added to means before their logarithm; a twentieth of the usual mean
MOMENTUM = 0.05  # of a batch in the running mean and variance
WEIGHTS = Path(__file__).parent / "weights" / "held_out.safetensors"


@dataclass(frozen=True, slots=True)
class HeldOutConfig:
    """Sizes of the network."""

    widths: tuple[int, int, int, int] = (24, 48, 80, 128)  # channels at 1/2, 1/4, 1/8, 1/16


class BatchNorm(nn.Module):
    """Batch normalisation of (n, width) or (n, width, h, w) (Ioffe & Szegedy 2015).

    Without PyTorch's counter of batches, which nothing reads and no average of weights can hold.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, *, affine: bool = True, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map to the same shape, by the batch's figures in training and the running ones after."""
        known = self.running_mean, self.running_var
        return F.batch_norm(x, *known, self.weight, self.bias, self.training, MOMENTUM)


class _Block(nn.Module):
    """Two convolutions around which the input is carried (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = BatchNorm(width, start=0.0)

    def forward(self, x: Tensor) -> Tensor:
        middle = F.relu(self.norm1(self.conv1(x)))
        return F.relu(x + self.norm2(self.conv2(middle)))


class _Stage(nn.Module):
    """Halve the plane, widen, and one block."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.norm = BatchNorm(width)
        self.block = _Block(width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.block(F.relu(self.norm(self.conv(x)))))


class HeldOutEncoder(nn.Module):
    """Pixels to the plane's means of the three deeper stages.

    Means of shallow stages keep what texture looks like near the pixels; of deep ones, what it is.
    As features they are taken as logarithms, so that no strong degradation drowns the others, and
    have mean 0 and deviation 1 on undamaged tissue of the training set.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: HeldOutConfig) -> None:
        super().__init__()
        self.config = config
        before = (12, *config.widths[:-1])
        strides = (1, 2, 2, 2)  # the first halving is a rearrangement that loses nothing
        self.stages = nn.ModuleList(map(_Stage, before, config.widths, strides))
        self.width = sum(config.widths[1:])
        self.register_buffer("shift", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))

    def means(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) in [-1, 1], sides multiples of 16, to (n, width), none below zero."""
        x = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean((2, 3)))
        return torch.cat(means[1:], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Features (n, width) of images as `means` takes them."""
        return (torch.log(self.means(images) + FLOOR) - self.shift) / self.scale


@cache
def load_held_out(weights: Path = WEIGHTS) -> HeldOutEncoder:
    """The shipped encoder, ready to judge; raises BundleError where weights and record differ."""
    from safetensors.torch import load

    try:
        data = weights.read_bytes()
        record: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(
            f"expected the held-out encoder at {weights} with its .json: {error}"
        ) from error
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise BundleError(f"{weights} is damaged: its digest is not {record['sha256'][:16]}…")
    model = HeldOutEncoder(HeldOutConfig(tuple(record["widths"])))
    model.load_state_dict({name: value.float() for name, value in load(data).items()})
    model = model.eval().requires_grad_(requires_grad=False)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
