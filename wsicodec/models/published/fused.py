"""What the published networks share in their form for drawing: folded weights, fewer launches.

Maps are channels last, so a map's tokens are a view of it. Convolutions leave their bias to the
next op. Weights that need no fold are the plain network's own tensors.
"""

import copy
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec import ops
from wsicodec.ops import folds

M = TypeVar("M", bound=nn.Module)
# Products of weights that contexts are still folded with, and codes that are searched.
_WIDE = ("to_scores", "to_offsets", "to_answers", "codes")


def lowered(network: M, dtype: torch.dtype) -> M:
    """A copy of a folded network for a card: narrow weights, channels last.

    What was folded was folded in full precision; tables that are folded or searched at run time
    stay as they are.
    """
    made: Any = copy.deepcopy(network)
    kept = [
        (module, name, tensor)
        for module in made.modules()
        for name, tensor in module.named_buffers(recurse=False)
        if name in _WIDE
    ]
    made.to(dtype=dtype, memory_format=torch.channels_last)
    for module, name, tensor in kept:
        setattr(module, name, tensor)
    found: M = made
    return found


def tokens_of(x: Tensor) -> Tensor:
    """A map (n, c, h, w) as tokens (n, h * w, c)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def map_of(tokens: Tensor, like: Tensor) -> Tensor:
    """Tokens (n, h * w, c) as a map (n, c, h, w) of another's height and width."""
    return tokens.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)


def bias_of(layer: nn.Conv2d | nn.Linear) -> Tensor:
    """The bias, which every layer of the published networks that is asked for it has."""
    assert layer.bias is not None
    return layer.bias.detach()


def _matrix(layer: nn.Conv2d) -> Tensor:
    """The matrix of a 1x1 convolution."""
    return layer.weight.flatten(1)


class FusedResidual(nn.Module):
    """The second half of a residual block and its skip, over one map or a stack of two.

    conv -> norm of (h + added) -> SiLU -> conv -> + skip, the latter a matrix or the map itself.
    """

    bias: Tensor

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv2d, skip: nn.Conv2d | None) -> None:
        super().__init__()
        self.norm, self.conv, self.skip = norm, conv, skip
        bias = bias_of(conv) if skip is None else bias_of(conv) + bias_of(skip)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, x: Tensor, second: Tensor | None, h: Tensor, added: Tensor) -> Tensor:
        """Finish a block of input x (and second under it) from what its first half made."""
        norm = self.norm
        h = ops.group_norm(h, norm.weight, norm.bias, added=added, eps=norm.eps)
        h = F.conv2d(h, self.conv.weight, padding=1)
        if self.skip is None:
            return ops.residual(x, h, self.bias)
        matrix, first = _matrix(self.skip), x.shape[1]
        rows = tokens_of(x).flatten(0, 1)
        told = torch.addmm(self.bias, rows, matrix[:, :first].T)
        if second is not None:
            told = torch.addmm(told, tokens_of(second).flatten(0, 1), matrix[:, first:].T)
        return map_of(told.unflatten(0, (len(x), -1)), h) + h


class FusedUpsample(nn.Module):
    """Doubling and its convolution by parities."""

    kernel: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.register_buffer("kernel", folds.fold_upsample(conv.weight.detach()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, c, 2h, 2w)."""
        return ops.upsample_conv(x, self.kernel, bias_of(self.conv))
