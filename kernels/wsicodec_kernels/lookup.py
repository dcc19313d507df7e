"""Tables: embeddings from their symbols to tokens, latents to the entry of the nearest code.

token = W ((symbol[index] step) + offset) + b,  or the padding token where index < 0
entry = table[argmin_k |z - e_k|^2],  the first of equals          (van den Oord et al. 2017)
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, dot, power_of_two, start


@triton.jit
def project_kernel(
    symbols: tl.tensor, steps: tl.tensor, offsets: tl.tensor, index: tl.tensor, weight: tl.tensor,
    bias: tl.tensor, padding: tl.tensor, out: tl.tensor, count: tl.tensor, depth: tl.constexpr,
    width: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, chunk: tl.constexpr,
) -> None:  # fmt: skip
    """A block of tokens, a block of their channels."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    part = tl.arange(0, chunk)
    source = tl.load(index + row, mask=row < count, other=-1).to(tl.int64)
    there, kept = source >= 0, column < width
    total = tl.zeros((rows, columns), tl.float32)
    for d in range(0, depth, chunk):
        real = d + part < depth
        place = source[:, None] * depth + d + part[None, :]
        symbol = tl.load(symbols + place, mask=there[:, None] & real[None, :], other=0)
        step = tl.load(steps + d + part, mask=real, other=0.0)
        offset = tl.load(offsets + d + part, mask=real, other=0.0)
        values = symbol.to(tl.float32) * step[None, :] + offset[None, :]
        place = column[None, :] * depth + d + part[:, None]
        told = tl.load(weight + place, mask=real[:, None] & kept[None, :], other=0.0)
        total = dot(values.to(told.dtype), told, total)
    total += tl.load(bias + column, mask=kept, other=0.0).to(tl.float32)[None, :]
    blank = tl.load(padding + column, mask=kept, other=0.0).to(tl.float32)
    total = tl.where(there[:, None], total, blank[None, :])
    tl.store(
        out + row[:, None].to(tl.int64) * width + column[None, :], total.to(out.dtype.element_ty),
        mask=(row < count)[:, None] & kept[None, :],
    )  # fmt: skip


@triton.jit
def nearest_kernel(
    cells: tl.tensor, codes: tl.tensor, table: tl.tensor, out: tl.tensor, count: tl.tensor,
    total: tl.constexpr, width: tl.constexpr, out_width: tl.constexpr, padded: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """A block of cells against all codes; differences are squared, not expanded."""
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    inside = row < count
    least = tl.full((rows,), float("inf"), tl.float32)
    found = tl.zeros((rows,), tl.int32)
    for first in range(0, total, columns):
        code = first + tl.arange(0, columns)
        apart = tl.where((code < total)[None, :], tl.zeros((rows, columns), tl.float32), 3.0e38)
        for c in tl.static_range(width):
            cell = tl.load(cells + row * width + c, mask=inside, other=0.0).to(tl.float32)
            here = tl.load(codes + code * width + c, mask=code < total, other=0.0).to(tl.float32)
            away = cell[:, None] - here[None, :]
            apart += away * away
        best = tl.min(apart, 1)
        chosen = tl.min(tl.where(apart == best[:, None], code[None, :], total), 1)
        found = tl.where(best < least, chosen, found)
        least = tl.minimum(best, least)
    part = tl.arange(0, padded)
    kept = inside[:, None] & (part < out_width)[None, :]
    entry = tl.load(table + found[:, None] * out_width + part[None, :], mask=kept, other=0.0)
    tl.store(out + row[:, None] * out_width + part[None, :], entry, mask=kept)


def project_symbols(
    symbols: Tensor, steps: Tensor, offsets: Tensor, index: Tensor, weight: Tensor, bias: Tensor,
    padding: Tensor, how: Mapping[str, int],
) -> Tensor:  # fmt: skip
    """See `wsicodec.ops.project_symbols`; all contiguous.

    Args:
        symbols: (p, d) integers.
        steps: (d,) float32.
        offsets: (d,) float32.
        index: (n, k) rows of `symbols`, below 0 for padding.
        weight: (width, d).
        bias: (width,).
        padding: (width,).
        how: "rows", "columns", "chunk", "warps", "stages".
    """
    count, (width, depth) = index.numel(), weight.shape
    out = torch.empty((*index.shape, width), dtype=weight.dtype, device=weight.device)
    grid = (blocks(count, how["rows"]), blocks(width, how["columns"]))
    start(
        project_kernel, grid, symbols, steps, offsets, index, weight, bias, padding, out, count,
        how=how, depth=depth, width=width, rows=how["rows"], columns=how["columns"],
        chunk=how["chunk"],
    )  # fmt: skip
    return out


def nearest_entry(latent: Tensor, codes: Tensor, table: Tensor, how: Mapping[str, int]) -> Tensor:
    """See `wsicodec.ops.nearest_entry`.

    Args:
        latent: (n, c, h, w), channels last.
        codes: (k, c), contiguous.
        table: (k, d), contiguous.
        how: "rows", "columns", "warps", "stages".
    """
    samples, width, height, across = latent.shape
    out = torch.empty(
        (samples, table.shape[1], height, across), dtype=table.dtype, device=table.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    count = samples * height * across
    start(
        nearest_kernel, (blocks(count, how["rows"]),), latent, codes, table, out, count, how=how,
        total=len(codes), width=width, out_width=table.shape[1],
        padded=power_of_two(table.shape[1]), rows=how["rows"], columns=how["columns"],
    )  # fmt: skip
    return out
