"""Products of weights that are taken once instead of at every step; exact up to rounding.

Scores of one head are n' Wq' Wk m, so the queries may carry Wk and the keys are the normed tokens
themselves; weights of a softmax sum to one, so the values may carry the output's projection and
every bias behind it. Sums are taken in float64 and rounded once.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LANES = 16  # columns that a tensor core multiplies at least


@dataclass(frozen=True)
class Projections:
    """Self-attention of one head with two projections instead of four.

    attention(n) = softmax(scale (W_q n + b_q)' n) (W_v n) + bias
    """

    weight: Tensor  # (2c, c): W_q above W_v
    bias: Tensor | None  # (2c,), None if the queries have none
    out_bias: Tensor  # (c,)


@dataclass(frozen=True)
class Condition:
    """Cross-attention of one head to the tokens of some items, folded with its layer norm.

    In units of log2(e), so that weights are powers of two. Columns beyond the tokens are zero.
    """

    scores_of: Tensor  # (k, c, columns), the norm's weight inside
    sums: Tensor  # (k, columns) float32, column sums of scores_of
    offsets: Tensor  # (k, columns) float32, what the norm's bias scores
    answers: Tensor  # (k, columns, c), output projection inside
    bias: Tensor  # (c,) of the output projection
    tokens: int


def fold_self_attention(
    q: tuple[Tensor, Tensor | None],
    k: Tensor,
    v: tuple[Tensor, Tensor | None],
    out: tuple[Tensor, Tensor],
) -> Projections:
    """Fold keys into queries and the output into values.

    Args:
        q: weight (c, c) and bias (c,) or None.
        k: weight (c, c); its bias adds the same to all scores of a query and is left out.
        v: weight and bias or None.
        out: weight and bias.
    """
    kind = q[0].dtype
    wide_k, wide_out = k.double(), out[0].double()
    bias = None
    if q[1] is not None:
        low = wide_k.T @ q[1].double()
        bias = torch.cat((low, torch.zeros_like(low))).to(kind)
    last = out[1].double() if v[1] is None else out[1].double() + wide_out @ v[1].double()
    weight = torch.cat((wide_k.T @ q[0].double(), wide_out @ v[0].double()))
    return Projections(weight.to(kind), bias, last.to(kind))


def fold_projections(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, norm: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """What of a cross-attention does not depend on the context.

    Args:
        q: (c, c).
        k: (c, d).
        v: (c, d).
        out: (c, c).
        norm: weight and bias (c,) of the layer norm before it.

    Returns:
        context to scores (d, c), context to offsets (d,), context to answers (d, c), float64.
    """
    scale = math.log2(math.e) / math.sqrt(q.shape[0])
    scores = k.double().T @ q.double() * scale
    weight, bias = norm[0].double(), norm[1].double()
    return scores * weight, scores @ bias, (out.double() @ v.double()).T


def fold_condition(
    context: Tensor, projections: tuple[Tensor, Tensor, Tensor], bias: Tensor
) -> Condition:
    """The two matrices of every item, from its context.

    Args:
        context: (k, tokens, d).
        projections: of `fold_projections`, rounded to the context's type or wider.
        bias: (c,) of the output projection.
    """
    to_scores, to_offsets, to_answers = projections
    tokens, kind = context.shape[1], context.dtype
    wide = context.to(to_scores.dtype)
    pad = max(LANES, 1 << (tokens - 1).bit_length()) - tokens
    scores = F.pad((wide @ to_scores).mT, (0, pad)).to(kind)
    answers = F.pad(wide @ to_answers, (0, 0, 0, pad)).to(kind)
    offsets = F.pad(wide @ to_offsets, (0, pad))
    return Condition(
        scores.contiguous(),
        scores.float().sum(1),
        offsets.float(),
        answers.contiguous(),
        bias.to(kind),
        tokens,
    )


def fold_upsample(weight: Tensor) -> Tensor:
    """A 3x3 kernel (k, c, 3, 3) behind nearest-neighbour doubling as (2, 2, k, 2, 2, c).

    Parities of the row and column, then taps, channels last. Row 2i + a of the doubled map reads
    rows i + a - 1 and i + a: at a = 0 the kernel's first row meets the former and the other two
    the latter; at a = 1 the first two meet the former.
    """
    wide = weight.double()

    def halves(kernel: Tensor, axis: int) -> Tensor:
        one, two, three = kernel.unbind(axis)
        even, odd = torch.stack((one, two + three)), torch.stack((one + two, three))
        return torch.stack((even, odd))  # parity, tap, then the other axes

    by_row = halves(wide, 2)  # a, u, k, c, 3
    by_column = halves(by_row, 4)  # b, v, a, u, k, c
    return by_column.permute(2, 0, 4, 3, 1, 5).to(weight.dtype).contiguous()
