"""Attention for head dimensions that FlashAttention and cuDNN do not take (beyond 256).

    out = softmax(scale q k') v (+ residual + bias)            (Vaswani et al. 2017, eq. 1)

`short_attention` holds all scores of a block of queries at once, so that there is no running
maximum and no accumulator as wide as the head: values stream by columns. It takes any head
dimension and up to 256 keys. `streaming_attention` is for more keys: it keeps three or four
accumulators of 128 columns and rescales them (Milakov & Gimelshein 2018; Dao et al. 2022).

One program computes one block of queries of one head in one fixed order of keys, so a result
depends neither on the batch nor on timing. Sums are float32.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, dot, power_of_two, start


@triton.jit
def _finish(
    values: tl.tensor, out: tl.tensor, residual: tl.tensor, bias: tl.tensor, place: tl.tensor,
    column: tl.tensor, inside: tl.tensor, has_residual: tl.constexpr, has_bias: tl.constexpr,
) -> None:  # fmt: skip
    if has_bias:
        values += tl.load(bias + column).to(tl.float32)[None, :]
    if has_residual:
        values += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def short_attention(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, out: tl.tensor, residual: tl.tensor,
    bias: tl.tensor, queries: tl.tensor, keys: tl.tensor, heads: tl.tensor, q_row: tl.tensor,
    k_row: tl.tensor, v_row: tl.tensor, scale: tl.tensor, width: tl.constexpr,
    chunk: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, has_residual: tl.constexpr,
    has_bias: tl.constexpr,
) -> None:  # fmt: skip
    """One block of queries of one head; `scale` has log2(e) in it."""
    item = (tl.program_id(1) // heads).to(tl.int64)
    head = (tl.program_id(1) % heads) * width
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    key = tl.arange(0, columns)
    part = tl.arange(0, chunk)
    asked, told = row[:, None] < queries, key[:, None] < keys
    from_q = q + (item * queries + row[:, None]) * q_row + head + part[None, :]
    from_k = k + (item * keys + key[:, None]) * k_row + head + part[None, :]
    from_v = v + (item * keys + key[:, None]) * v_row + head + part[None, :]
    scores = tl.zeros((rows, columns), tl.float32)
    for d in range(0, width, chunk):
        real = d + part[None, :] < width
        a = tl.load(from_q + d, mask=asked & real, other=0.0)
        b = tl.load(from_k + d, mask=told & real, other=0.0)
        scores = dot(a, tl.trans(b), scores)
    scores = tl.where(key[None, :] < keys, scores * scale, float("-inf"))
    weights = tl.exp2(scores - tl.max(scores, 1)[:, None])
    weights = (weights / tl.sum(weights, 1)[:, None]).to(v.dtype.element_ty)
    place = (item * queries + row[:, None]) * heads * width + head + part[None, :]
    for d in range(0, width, chunk):
        real = d + part[None, :] < width
        b = tl.load(from_v + d, mask=told & real, other=0.0)
        mixed = dot(weights, b, tl.zeros((rows, chunk), tl.float32))
        column = tl.minimum(head + d + part, heads * width - 1)
        _finish(mixed, out, residual, bias, place + d, column, asked & real, has_residual, has_bias)


@triton.jit
def _scores(
    q0: tl.tensor, q1: tl.tensor, q2: tl.tensor, q3: tl.tensor, keys: tl.tensor, told: tl.tensor,
    rows: tl.constexpr, columns: tl.constexpr, chunks: tl.constexpr,
) -> Any:  # fmt: skip
    found = tl.zeros((rows, columns), tl.float32)
    found = dot(q0, tl.trans(tl.load(keys, mask=told, other=0.0)), found)
    found = dot(q1, tl.trans(tl.load(keys + 128, mask=told, other=0.0)), found)
    found = dot(q2, tl.trans(tl.load(keys + 256, mask=told, other=0.0)), found)
    if chunks == 4:
        found = dot(q3, tl.trans(tl.load(keys + 384, mask=told, other=0.0)), found)
    return found


@triton.jit
def streaming_attention(
    q: tl.tensor, k: tl.tensor, v: tl.tensor, out: tl.tensor, residual: tl.tensor,
    bias: tl.tensor, queries: tl.tensor, q_row: tl.tensor, k_row: tl.tensor, v_row: tl.tensor,
    scale: tl.tensor, keys: tl.constexpr, chunks: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr, has_residual: tl.constexpr, has_bias: tl.constexpr,
) -> None:  # fmt: skip
    """One block of queries, one head of 128 `chunks`; `scale` has log2(e) in it."""
    item = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    part = tl.arange(0, 128)
    asked = row[:, None] < queries
    from_q = q + (item * queries + row[:, None]) * q_row + part[None, :]
    q0 = tl.load(from_q, mask=asked, other=0.0)
    q1 = tl.load(from_q + 128, mask=asked, other=0.0)
    q2 = tl.load(from_q + 256, mask=asked, other=0.0)
    q3 = tl.load(from_q + 128 * chunks - 128, mask=asked, other=0.0)
    top = tl.full((rows,), float("-inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    a0 = tl.zeros((rows, 128), tl.float32)
    a1 = tl.zeros((rows, 128), tl.float32)
    a2 = tl.zeros((rows, 128), tl.float32)
    a3 = tl.zeros((rows, 128), tl.float32)
    for first in range(0, keys, columns):
        key = first + tl.arange(0, columns)
        told = key[:, None] < keys
        here = item * keys + key[:, None]
        scores = _scores(
            q0, q1, q2, q3, k + here * k_row + part[None, :], told, rows, columns, chunks
        )
        scores = tl.where(key[None, :] < keys, scores * scale, float("-inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        fade = tl.exp2(top - higher)
        weights = tl.exp2(scores - higher[:, None])
        total = total * fade + tl.sum(weights, 1)
        top = higher
        w = weights.to(v.dtype.element_ty)
        from_v = v + here * v_row + part[None, :]
        a0 = dot(w, tl.load(from_v, mask=told, other=0.0), a0 * fade[:, None])
        a1 = dot(w, tl.load(from_v + 128, mask=told, other=0.0), a1 * fade[:, None])
        a2 = dot(w, tl.load(from_v + 256, mask=told, other=0.0), a2 * fade[:, None])
        if chunks == 4:
            a3 = dot(w, tl.load(from_v + 384, mask=told, other=0.0), a3 * fade[:, None])
    share = (1.0 / total)[:, None]
    place = (item * queries + row[:, None]) * (128 * chunks) + part[None, :]
    _finish(a0 * share, out, residual, bias, place, part, asked, has_residual, has_bias)
    _finish(a1 * share, out, residual, bias, place + 128, part + 128, asked, has_residual, has_bias)
    _finish(a2 * share, out, residual, bias, place + 256, part + 256, asked, has_residual, has_bias)
    if chunks == 4:
        _finish(
            a3 * share, out, residual, bias, place + 384, part + 384, asked, has_residual, has_bias
        )


def attention(
    q: Tensor, k: Tensor, v: Tensor, residual: Tensor | None, bias: Tensor | None,
    heads: int, scale: float, how: Mapping[str, int],
) -> Tensor:  # fmt: skip
    """See `wsicodec.ops.attention`.

    Args:
        q: (n, m, heads * width), rows evenly apart over all items; likewise k and v (n, l, ...).
        k: keys.
        v: values.
        residual: (n, m, heads * width), contiguous, or None.
        bias: (heads * width,) or None.
        heads: side by side in the channels.
        scale: of the products.
        how: "rows", "columns" (0: all keys at once), "chunk", "warps", "stages".
    """
    items, queries, channels = q.shape
    keys, width = k.shape[1], channels // heads
    out = torch.empty((items, queries, channels), dtype=q.dtype, device=q.device)
    more = (out if residual is None else residual, out if bias is None else bias)
    grid = (blocks(queries, how["rows"]), items * heads)
    steps = (q.stride(1), k.stride(1), v.stride(1), scale * math.log2(math.e))
    flags = {"has_residual": residual is not None, "has_bias": bias is not None}
    if how["columns"]:
        start(
            streaming_attention, grid, q, k, v, out, *more, queries, *steps, how=how, keys=keys,
            chunks=width // 128, rows=how["rows"], columns=how["columns"], **flags,
        )  # fmt: skip
    else:
        start(
            short_attention, grid, q, k, v, out, *more, queries, keys, heads, *steps, how=how,
            width=width, chunk=how["chunk"], rows=how["rows"],
            columns=max(16, power_of_two(keys)), **flags,
        )  # fmt: skip
    return out
