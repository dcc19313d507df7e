"""Nearest-neighbour doubling and a 3x3 convolution as four 2x2 convolutions, one a parity.

    y[2i + a, 2j + b] = sum_uv W[a, b, u, v] x[i + a - 1 + u, j + b - 1 + v] + bias

Of the nine taps on a doubled map two or four always meet the same pixel; their kernels add up
(`wsicodec.ops.folds.fold_upsample`), so four ninths of the products remain and the doubled map is
never written. One launch: an implicit matrix product per parity, straight to its pixels.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, dot, start


@triton.jit
def upsample_kernel(
    x: tl.tensor, kernel: tl.tensor, bias: tl.tensor, out: tl.tensor, samples: tl.tensor,
    height: tl.tensor, across: tl.tensor, width: tl.constexpr, out_width: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr, chunk: tl.constexpr,
) -> None:  # fmt: skip
    """A block of pixels of x, a block of output channels, one parity."""
    parity = tl.program_id(2)
    a, b = parity // 2, parity % 2
    pixel = tl.program_id(0) * rows + tl.arange(0, rows)
    sample = (pixel // (height * across)).to(tl.int64)
    i, j = pixel // across % height, pixel % across
    real = pixel < samples * height * across
    part = tl.arange(0, chunk)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    kept = column < out_width
    total = tl.zeros((rows, columns), tl.float32)
    for tap in range(4):
        row, place = i + (a - 1 + tap // 2), j + (b - 1 + tap % 2)
        inside = real & (row >= 0) & (row < height) & (place >= 0) & (place < across)
        source = x + (((sample * height + row) * across + place) * width)[:, None] + part[None, :]
        taps = ((parity * out_width + column) * 4 + tap) * width
        taps = kernel + taps[None, :] + part[:, None]
        for c in range(0, width, chunk):
            values = tl.load(source + c, mask=inside[:, None], other=0.0)
            told = tl.load(taps + c, mask=kept[None, :], other=0.0)
            total = dot(values, told, total)
    total += tl.load(bias + column, mask=kept, other=0.0).to(tl.float32)[None, :]
    target = ((sample * 2 * height + 2 * i + a) * 2 * across + 2 * j + b) * out_width
    tl.store(
        out + target[:, None] + column[None, :], total.to(out.dtype.element_ty),
        mask=real[:, None] & kept[None, :],
    )  # fmt: skip


def upsample_conv(x: Tensor, kernel: Tensor, bias: Tensor, how: Mapping[str, int]) -> Tensor:
    """See `wsicodec.ops.upsample_conv`.

    Args:
        x: (n, c, h, w), channels last.
        kernel: (2, 2, k, 2, 2, c): parities, channels out, taps, channels in; contiguous.
        bias: (k,).
        how: "rows", "columns", "chunk" (divides c), "warps", "stages".
    """
    samples, width, height, across = x.shape
    out_width = kernel.shape[2]
    out = torch.empty(
        (samples, out_width, 2 * height, 2 * across), dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    grid = (
        blocks(samples * height * across, how["rows"]), blocks(out_width, how["columns"]), 4
    )  # fmt: skip
    start(
        upsample_kernel, grid, x, kernel, bias, out, samples, height, across, how=how, width=width,
        out_width=out_width, rows=how["rows"], columns=how["columns"], chunk=how["chunk"],
    )  # fmt: skip
    return out
