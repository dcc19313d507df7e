"""Attention, and cross-attention whose projections were folded into two matrices of a tile."""

import math

import torch
from torch import Tensor

from wsicodec.ops import reference
from wsicodec.ops.dispatch import launch_of, wanted
from wsicodec.ops.folds import Condition
from wsicodec.ops.forms import registered


def _even(x: Tensor) -> Tensor:
    """The same (n, m, c) with unit columns and rows evenly apart over all items."""
    even = x.stride(2) == 1 and (len(x) == 1 or x.stride(0) == x.shape[1] * x.stride(1))
    return x if even else x.contiguous()


def _attention_shapes(q: Tensor, *_: object) -> Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


@registered(_attention_shapes)
def _attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    residual: Tensor | None,
    bias: Tensor | None,
    heads: int,
    scale: float,
) -> Tensor:
    width = q.shape[2] // heads
    shape = {"width": width, "keys": k.shape[1], "heads": heads, "bytes": q.element_size()}
    how = launch_of("attention", q, **shape)
    if how is None:
        return reference.attention(q, k, v, residual, bias, heads, scale).contiguous()
    from wsicodec_kernels.attention import attention as kernel

    added = None if residual is None else residual.contiguous()
    return kernel(_even(q), _even(k), _even(v), added, bias, heads, scale, how)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    heads: int = 1,
    scale: float | None = None,
    residual: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Residual + softmax(scale q k') v + bias (Vaswani et al. 2017, eq. 1), head by head.

    Args:
        q: queries (n, m, heads * width).
        k: keys (n, l, heads * width).
        v: values (n, l, heads * width).
        heads: side by side in the channels.
        scale: of the products; one over the root of the width if None.
        residual: (n, m, heads * width), or None.
        bias: (heads * width,), or None.
    """
    if scale is None:
        scale = 1 / math.sqrt(q.shape[2] // heads)
    run = _attention if wanted(q, k, v, residual, bias) else reference.attention
    return run(q, k, v, residual, bias, heads, scale)


def _condition_shapes(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty(
        x.shape, dtype=x.dtype, device=x.device
    )


@registered(_condition_shapes)
def _condition(
    x: Tensor,
    scores_of: Tensor,
    sums: Tensor,
    offsets: Tensor,
    answers: Tensor,
    bias: Tensor,
    weight: Tensor,
    shift: Tensor,
    tokens: int,
    eps: float,
) -> tuple[Tensor, Tensor]:
    width, columns = scores_of.shape[1:]
    shape = {"over": width % 64, "columns": columns, "bytes": x.element_size()}
    how, folded = launch_of("condition", x, **shape), (scores_of, sums, offsets, answers)
    if how is None:
        out, normal = reference.condition(x, folded, bias, weight, shift, tokens, eps)
        return out.contiguous(), normal.contiguous()
    from wsicodec_kernels.condition import condition as kernel

    return kernel(x.contiguous(), folded, bias, weight, shift, tokens, eps, how)


def condition(
    x: Tensor, told: Condition, weight: Tensor, shift: Tensor, *, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """Y = x + cross-attention of the layer norm of x, folded, and the next layer norm of y.

    Args:
        x: tokens (n, m, c).
        told: of the last k items; the items before them have an all-zero context, which answers
            with the output's bias and costs nothing.
        weight: (c,) of the next layer norm.
        shift: (c,) of the next layer norm.
        eps: of both layer norms.

    Returns:
        y and its layer norm, (n, m, c) each.
    """
    matrices = (told.scores_of, told.sums, told.offsets, told.answers)
    if wanted(x, *matrices, told.bias, weight, shift):
        return _condition(x, *matrices, told.bias, weight, shift, told.tokens, eps)
    return reference.condition(x, matrices, told.bias, weight, shift, told.tokens, eps)
