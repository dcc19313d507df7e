"""Overlapping windows to one picture of bytes.

    y[p] = floor(clamp(127.5 (sum_k w[p - o_k] x_k[p - o_k] / sum_k w[p - o_k] + 1) + h, 0, 255))

The sum runs over the windows in their order, pixel by pixel, so it never depends on timing.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, start


@triton.jit
def blend_kernel(
    windows: tl.tensor, weights: tl.tensor, origins: tl.tensor, out: tl.tensor, height: tl.tensor,
    width: tl.tensor, side: tl.tensor, across: tl.tensor, half: tl.tensor, count: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """A block of rows and of a row's bytes; `side` and `across` are a window's."""
    first_row, first_byte = tl.program_id(0) * rows, tl.program_id(1) * columns
    row = first_row + tl.arange(0, rows)
    byte = first_byte + tl.arange(0, columns)
    column = byte // 3
    total = tl.zeros((rows, columns), tl.float32)
    weight = tl.zeros((rows, columns), tl.float32)
    for k in range(count):
        top, left = tl.load(origins + 2 * k), tl.load(origins + 2 * k + 1)
        meets = (top < first_row + rows) & (top + side > first_row)
        meets = meets & (3 * left < first_byte + columns) & (3 * (left + across) > first_byte)
        if meets:
            y, x = row - top, column - left
            inside = ((y >= 0) & (y < side))[:, None] & ((x >= 0) & (x < across))[None, :]
            place = y[:, None] * across + x[None, :]
            here = tl.load(weights + place, mask=inside, other=0.0).to(tl.float32)
            base = windows + tl.cast(k, tl.int64) * side * across * 3
            values = tl.load(base + 3 * place + (byte % 3)[None, :], mask=inside, other=0.0)
            total += here * values.to(tl.float32)
            weight += here
    value = (total / tl.where(weight > 0, weight, 1.0) + 1.0) * 127.5 + half
    value = tl.floor(tl.minimum(tl.maximum(value, 0.0), 255.0))
    value = tl.where(weight > 0, value, 0.0)
    kept = (row < height)[:, None] & (byte < 3 * width)[None, :]
    target = row[:, None].to(tl.int64) * 3 * width + byte[None, :]
    tl.store(out + target, value.to(tl.uint8), mask=kept)


def blend_windows(
    windows: Tensor, weights: Tensor, origins: Tensor, height: int, width: int, half: float,
    how: Mapping[str, int],
) -> Tensor:  # fmt: skip
    """See `wsicodec.ops.blend_windows`.

    Args:
        windows: (k, 3, h, w), channels last.
        weights: (h, w), contiguous.
        origins: (k, 2) int32 rows and columns of the windows' corners.
        height: of the picture.
        width: of the picture.
        half: added before truncation.
        how: "rows", "columns", "warps", "stages".
    """
    out = torch.empty((height, width, 3), dtype=torch.uint8, device=windows.device)
    grid = (blocks(height, how["rows"]), blocks(3 * width, how["columns"]))
    start(
        blend_kernel, grid, windows, weights, origins, out, height, width, windows.shape[2],
        windows.shape[3], half, how=how, count=len(windows), rows=how["rows"],
        columns=how["columns"],
    )  # fmt: skip
    return out
