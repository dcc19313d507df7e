"""Norms and modulations of the small family: one pass over a channels-last map.

    channel norm   y = x / sqrt(mean_c x^2 + eps) w          (Zhang & Sennrich 2019), then SiLU
    FiLM           y = SiLU((1 + scale) x + shift)           (Perez et al. 2018)

All arithmetic is float32. For the convolution that follows, a map may be written framed: a pixel
larger on every side, where its border repeats.
"""

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, power_of_two, start


@triton.jit
def _under(row: tl.tensor, height: tl.tensor, across: tl.tensor) -> Any:
    """The pixel of (n, height, across) that a pixel of the framed map shows."""
    line = row // (across + 2)
    y = tl.minimum(tl.maximum(line % (height + 2), 1), height) - 1
    x = tl.minimum(tl.maximum(row % (across + 2), 1), across) - 1
    return (line // (height + 2) * height + y) * across + x


@triton.jit
def channel_norm_kernel(
    x: tl.tensor, weight: tl.tensor, out: tl.tensor, count: tl.tensor, eps: tl.tensor,
    height: tl.tensor, across: tl.tensor, width: tl.constexpr, padded: tl.constexpr,
    block: tl.constexpr, activate: tl.constexpr, framed: tl.constexpr,
) -> None:  # fmt: skip
    """Norm `block` pixels; out is (count, width), and x the same if it is not to be framed."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    column = tl.arange(0, padded)
    inside = (row < count)[:, None] & (column < width)[None, :]
    source = row
    if framed:
        source = _under(row, height, across)
    seen = source.to(tl.int64)[:, None] * width + column[None, :]
    values = tl.load(x + seen, mask=inside, other=0.0).to(tl.float32)
    gain = tl.load(weight + column, mask=column < width, other=0.0).to(tl.float32)
    power = tl.sum(values * values, 1) / width
    values = values * (1.0 / tl.sqrt(power + eps))[:, None] * gain[None, :]
    if activate:
        values = values * tl.sigmoid(values)
    place = row.to(tl.int64)[:, None] * width + column[None, :]
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def film_silu_kernel(
    x: tl.tensor, film: tl.tensor, out: tl.tensor, pixels: tl.tensor, height: tl.tensor,
    across: tl.tensor, width: tl.tensor, sample_row: tl.tensor, pixel_row: tl.tensor,
    rows: tl.constexpr, columns: tl.constexpr, framed: tl.constexpr,
) -> None:  # fmt: skip
    """Modulate a block of out (n, pixels, width); a pixel row of 0 has one FiLM for all pixels."""
    sample = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(2) * columns + tl.arange(0, columns)
    inside = (row < pixels)[:, None] & (column < width)[None, :]
    source = row
    if framed:
        source = _under(row, height, across)
    seen = (sample * height * across + source[:, None]) * width + column[None, :]
    told = film + sample * sample_row + source[:, None] * pixel_row + column[None, :]
    values = tl.load(x + seen, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(told, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(told + width, mask=inside, other=0.0).to(tl.float32)
    values = values * (1.0 + scale) + shift
    values = values * tl.sigmoid(values)
    place = (sample * pixels + row[:, None]) * width + column[None, :]
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


def channel_norm(
    x: Tensor, weight: Tensor, activate: bool, eps: float, framed: bool, how: Mapping[str, int]
) -> Tensor:
    """See `wsicodec.ops.channel_norm`.

    Args:
        x: (n, c, h, w), channels last.
        weight: (c,).
        activate: whether SiLU follows.
        eps: added to the mean square.
        framed: whether the border repeats around what is returned.
        how: "lanes" (elements per program), "warps", "stages".
    """
    out = _room(x, framed)
    width, height, across = x.shape[1:]
    count, padded = out.numel() // width, power_of_two(width)
    block = max(1, how["lanes"] // padded)
    start(
        channel_norm_kernel, (blocks(count, block),), x, weight, out, count, eps, height, across,
        how=how, width=width, padded=padded, block=block, activate=activate, framed=framed,
    )  # fmt: skip
    return out


def film_silu(x: Tensor, film: Tensor, framed: bool, how: Mapping[str, int]) -> Tensor:
    """See `wsicodec.ops.film_silu`.

    Args:
        x: (n, c, h, w), channels last.
        film: (n, 2c, 1, 1) or (n, 2c, h, w), channels last.
        framed: whether the border repeats around what is returned.
        how: "rows", "columns", "warps", "stages".
    """
    out = _room(x, framed)
    samples, width, height, across = x.shape
    pixels, told = out.shape[2] * out.shape[3], film.shape[2] * film.shape[3]
    grid = (blocks(pixels, how["rows"]), samples, blocks(width, how["columns"]))
    start(
        film_silu_kernel, grid, x, film, out, pixels, height, across, width, told * 2 * width,
        0 if told == 1 and pixels > 1 else 2 * width, how=how, rows=how["rows"],
        columns=how["columns"], framed=framed,
    )  # fmt: skip
    return out


def _room(x: Tensor, framed: bool) -> Tensor:
    """Memory for a map like x, or for one a pixel larger on every side."""
    samples, width, height, across = x.shape
    more = 2 if framed else 0
    shape = (samples, width, height + more, across + more)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
