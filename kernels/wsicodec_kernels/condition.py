"""The conditioning sub-block of a transformer with one head, in one launch.

    y = x + softmax(LN(x) Wq (c Wk)' / sqrt(d)) c Wv Wo + b,    and LN'(y) beside it

With one head the projections fold into two matrices of a tile, made once and used at every step:
A = Wq (c Wk)' / sqrt(d) and B = c Wv Wo (`wsicodec.ops.folds`). The layer norm folds as well:
LN(x) A = (x A' - mean colsum(A')) / deviation + bias A, with A' = A scaled by the norm's weight.

An item without a context has B = 0, so its answer is y = x + b: the first `silent` items of a
batch take that way and read neither matrix. The next sub-block's layer norm is taken while y is
still in the cache.
"""

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, dot, start


@triton.jit
def _merge(
    count: tl.tensor, mean: tl.tensor, power: tl.tensor, values: tl.tensor, width: tl.constexpr
) -> Any:
    """Mean and squared deviations with `width` columns more (Chan, Golub, LeVeque 1979)."""
    here = tl.sum(values, 1) / width
    away = values - here[:, None]
    apart = here - mean
    total = count + width
    power += tl.sum(away * away, 1) + apart * apart * (count * width / total)
    return total, mean + apart * (width / total), power


@triton.jit
def _attend(
    x: tl.tensor, scores_of: tl.tensor, sums: tl.tensor, offsets: tl.tensor, item: tl.tensor,
    asked: tl.tensor, tokens: tl.tensor, eps: tl.tensor, width: tl.constexpr, chunk: tl.constexpr,
    rows: tl.constexpr, columns: tl.constexpr,
) -> Any:  # fmt: skip
    """Softmax of a block of rows; `x` points at their first chunk."""
    key = tl.arange(0, columns)
    part = tl.arange(0, chunk)
    scores = tl.zeros((rows, columns), tl.float32)
    count = 0.0
    mean = tl.zeros((rows,), tl.float32)
    power = tl.zeros((rows,), tl.float32)
    for d in range(0, width, chunk):
        values = tl.load(x + d, mask=asked, other=0.0)
        told = tl.load(scores_of + (item * width + d + part[:, None]) * columns + key[None, :])
        scores = dot(values, told, scores)
        count, mean, power = _merge(count, mean, power, values.to(tl.float32), chunk)
    gain = 1.0 / tl.sqrt(power / width + eps)
    sums_here = tl.load(sums + item * columns + key)
    offset = tl.load(offsets + item * columns + key)
    scores = (scores - mean[:, None] * sums_here[None, :]) * gain[:, None] + offset[None, :]
    scores = tl.where(key[None, :] < tokens, scores, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def condition_kernel(
    x: tl.tensor, scores_of: tl.tensor, sums: tl.tensor, offsets: tl.tensor, answers: tl.tensor,
    bias: tl.tensor, weight: tl.tensor, shift: tl.tensor, out: tl.tensor, normal: tl.tensor,
    queries: tl.tensor, tokens: tl.tensor, silent: tl.tensor, eps: tl.tensor, width: tl.constexpr,
    chunk: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """One block of rows of one item, all channels."""
    item = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    part = tl.arange(0, chunk)
    asked = row[:, None] < queries
    place = (item * queries + row[:, None]) * width + part[None, :]
    weights = tl.zeros((rows, columns), tl.float32)
    told = (item - silent).to(tl.int64)  # which context; below 0 there is none
    if told >= 0:
        weights = _attend(
            x + place, scores_of, sums, offsets, told, asked, tokens, eps,
            width, chunk, rows, columns,
        )  # fmt: skip
    weights = weights.to(answers.dtype.element_ty)
    count = 0.0
    mean = tl.zeros((rows,), tl.float32)
    power = tl.zeros((rows,), tl.float32)
    key = tl.arange(0, columns)
    for d in range(0, width, chunk):
        values = tl.load(x + place + d, mask=asked, other=0.0).to(tl.float32)
        values += tl.load(bias + d + part).to(tl.float32)[None, :]
        if told >= 0:
            answer = tl.load(answers + (told * columns + key[:, None]) * width + d + part[None, :])
            values = dot(weights, answer, values)
        tl.store(out + place + d, values.to(out.dtype.element_ty), mask=asked)
        count, mean, power = _merge(count, mean, power, values, chunk)
    gain = 1.0 / tl.sqrt(power / width + eps)
    tl.debug_barrier()  # the rows are read back by other threads than wrote them
    for d in range(0, width, chunk):
        values = tl.load(out + place + d, mask=asked, other=0.0).to(tl.float32)
        values = (values - mean[:, None]) * gain[:, None]
        values = values * tl.load(weight + d + part).to(tl.float32)[None, :]
        values = values + tl.load(shift + d + part).to(tl.float32)[None, :]
        tl.store(normal + place + d, values.to(normal.dtype.element_ty), mask=asked)


def condition(
    x: Tensor, folded: tuple[Tensor, Tensor, Tensor, Tensor], bias: Tensor, weight: Tensor,
    shift: Tensor, tokens: int, eps: float, how: Mapping[str, int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `wsicodec.ops.condition`.

    Args:
        x: (n, m, width), contiguous.
        folded: score matrices (k, width, columns), their column sums and offsets (k, columns) in
            float32, answers (k, columns, width); for the last k items.
        bias: (width,) of the output projection.
        weight: (width,) of the next layer norm.
        shift: (width,) likewise.
        tokens: of the context; columns beyond them are padding.
        eps: of both layer norms.
        how: "rows", "chunk" (divides the width), "warps", "stages".
    """
    scores_of, sums, offsets, answers = folded
    items, queries, width = x.shape
    out, normal = torch.empty_like(x), torch.empty_like(x)
    start(
        condition_kernel, (blocks(queries, how["rows"]), items), x, scores_of, sums, offsets,
        answers, bias, weight, shift, out, normal, queries, tokens, items - len(scores_of), eps,
        how=how, width=width, chunk=how["chunk"], rows=how["rows"], columns=scores_of.shape[2],
    )  # fmt: skip
    return out, normal
