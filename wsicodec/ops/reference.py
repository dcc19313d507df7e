"""Every op in plain PyTorch: what runs without a card, and what a kernel is tested against."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    residual: Tensor | None,
    bias: Tensor | None,
    heads: int,
    scale: float,
) -> Tensor:
    """Softmax of scaled products over values, heads side by side, plus what is added."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(2)
    if bias is not None:
        mixed = mixed + bias
    return mixed if residual is None else residual + mixed


def condition(
    x: Tensor,
    folded: tuple[Tensor, Tensor, Tensor, Tensor],
    bias: Tensor,
    weight: Tensor,
    shift: Tensor,
    tokens: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Folded cross-attention added to x, and the layer norm of the sum; see `folds`."""
    scores_of, _, offsets, answers = folded
    silent, width = len(x) - len(scores_of), x.shape[-1]
    out = x + bias
    if len(scores_of):
        normal = F.layer_norm(x[silent:], (width,), eps=eps)
        scores = normal @ scores_of[..., :tokens]
        scores = (scores + offsets[:, None, :tokens].to(scores.dtype)) * math.log(2)
        told = torch.baddbmm(out[silent:], scores.softmax(-1), answers[:, :tokens])
        out = told if not silent else torch.cat((out[:silent], told))
    return out, F.layer_norm(out, (width,), weight, shift, eps)


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    second: Tensor | None,
    added: Tensor | None,
    film: Tensor | None,
    groups: int,
    eps: float,
    activate: bool,
) -> Tensor:
    """Group norm of the stack, embedding before and modulation after it, then SiLU."""
    if second is not None:
        x = torch.cat((x, second), 1)
    if added is not None:
        x = x + added[..., None, None]
    x = F.group_norm(x, groups, weight, bias, eps)
    if film is not None:
        scale, shift = film[..., None, None].chunk(2, 1)
        x = x * (1 + scale) + shift
    return F.silu(x) if activate else x


def upsample_conv(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Four convolutions of 2x2, one a parity of the doubled map's rows and columns."""
    height, width = x.shape[2:]
    shape = (x.shape[0], kernel.shape[2], 2 * height, 2 * width)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
        padded = F.pad(x, (1 - b, b, 1 - a, a))
        out[:, :, a::2, b::2] = F.conv2d(padded, kernel[a, b].permute(0, 3, 1, 2), bias)
    return out


def geglu(x: Tensor) -> Tensor:
    """Values times the exact GELU of gates."""
    value, gate = x.chunk(2, -1)
    return value * F.gelu(gate)


def residual(x: Tensor, h: Tensor, bias: Tensor) -> Tensor:
    """A map, another and a bias."""
    return x + h + bias[:, None, None]


def guided_step(
    x: Tensor,
    conditional: Tensor,
    unconditional: Tensor | None,
    before: Tensor | None,
    scale: float,
    move: list[float],
    keep: list[float],
) -> tuple[Tensor, Tensor]:
    """Guidance, then a linear solver's step and what it keeps."""
    eps = conditional
    if unconditional is not None:
        eps = unconditional + scale * (conditional - unconditional)
    moved = move[0] * x + move[1] * eps
    if before is not None:
        moved = moved + move[2] * before
    return moved, keep[0] * x + keep[1] * eps


def project_symbols(
    symbols: Tensor,
    steps: Tensor,
    offsets: Tensor,
    index: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor,
) -> Tensor:
    """Gathered symbols to values to tokens; the padding token where the index is negative."""
    values = symbols[index.clamp(min=0).long()] * steps + offsets
    tokens = F.linear(values.to(weight.dtype), weight, bias)
    return torch.where((index < 0)[..., None], padding, tokens)


def nearest_entry(latent: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    """The table's entry of the code nearest to every cell."""
    cells = latent.permute(0, 2, 3, 1).flatten(0, 2)
    # The cells' own squares are the same for every code and may be left out.
    found = torch.addmm(codes.square().sum(1), cells, codes.T, alpha=-2).argmin(1)
    entries = table[found].view(latent.shape[0], *latent.shape[2:], -1)
    return entries.permute(0, 3, 1, 2)


def blend_windows(
    windows: Tensor, weights: Tensor, origins: Tensor, height: int, width: int, half: float
) -> Tensor:
    """Weighted means of overlapping windows in [-1, 1], as bytes; zero where there is none.

    Origins are never read by the host, so that a CUDA graph can hold this form too.
    """
    down, across = weights.shape
    total = windows.new_zeros((height, width, 3), dtype=torch.float32)
    weight = windows.new_zeros((height, width, 1), dtype=torch.float32)
    rows = torch.arange(height, device=windows.device)
    columns = torch.arange(width, device=windows.device)
    for window, (top, left) in zip(windows.float(), origins.unbind(), strict=True):
        y, x = rows - top, columns - left
        inside = ((y >= 0) & (y < down))[:, None] & ((x >= 0) & (x < across))
        y, x = y.clamp(0, down - 1), x.clamp(0, across - 1)
        here = (weights[y][:, x] * inside)[..., None]
        total += here * window[:, y][:, :, x].permute(1, 2, 0)
        weight += here
    value = (total / weight.where(weight > 0, 1.0) + 1) * 127.5 + half
    return (value.clamp(0, 255) * (weight > 0)).to(torch.uint8)


def channel_norm(x: Tensor, weight: Tensor, activate: bool, eps: float, framed: bool) -> Tensor:
    """Root-mean-square norm over the channels of every pixel, then SiLU if `activate`."""
    power = x.square().mean(1, keepdim=True)
    normal = x * (power + eps).rsqrt() * weight[:, None, None]
    return _framed(F.silu(normal) if activate else normal, framed)


def film_silu(x: Tensor, film: Tensor, framed: bool) -> Tensor:
    """SiLU of (1 + scale) x + shift; scale and shift are the halves of `film`'s channels."""
    scale, shift = film.chunk(2, 1)
    return _framed(F.silu(x * (1 + scale) + shift), framed)


def _framed(x: Tensor, framed: bool) -> Tensor:
    """The map, or one a pixel larger on every side, where its border repeats."""
    return F.pad(x, (1, 1, 1, 1), mode="replicate") if framed else x
