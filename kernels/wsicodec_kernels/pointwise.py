"""Element by element: GEGLU, a residual with its bias, guidance with a solver's step.

    GEGLU      y = v gelu(g), gelu(g) = g (1 + erf(g / sqrt 2)) / 2          (Shazeer 2020)
    residual   y = x + h + bias
    guidance   eps = eps_u + s (eps_c - eps_u)                               (Ho & Salimans 2022)
    step       x' = k0 x + k1 eps + k2 z,  z' = m0 x + m1 eps

All linear solvers are such a step: DDIM has k2 = 0, DPM-Solver++(2M) keeps its clean estimate in z.
"""

from collections.abc import Mapping

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, start


@triton.jit
def geglu_kernel(
    x: tl.tensor, out: tl.tensor, count: tl.tensor, width: tl.constexpr, rows: tl.constexpr,
    columns: tl.constexpr,
) -> None:  # fmt: skip
    """A block of (count, width) from (count, 2 width)."""
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = (row < count)[:, None] & (column < width)[None, :]
    place = row[:, None] * (2 * width) + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(x + place + width, mask=inside, other=0.0).to(tl.float32)
    value = value * (0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476)))
    tl.store(
        out + row[:, None] * width + column[None, :], value.to(out.dtype.element_ty), mask=inside
    )


@triton.jit
def residual_kernel(
    x: tl.tensor, h: tl.tensor, bias: tl.tensor, out: tl.tensor, count: tl.tensor,
    width: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr,
) -> None:  # fmt: skip
    """A block of (count, width)."""
    row = tl.program_id(0).to(tl.int64) * rows + tl.arange(0, rows)
    column = tl.program_id(1) * columns + tl.arange(0, columns)
    inside = (row < count)[:, None] & (column < width)[None, :]
    place = row[:, None] * width + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(h + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + column, mask=column < width, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def step_kernel(
    x: tl.tensor, unconditional: tl.tensor, conditional: tl.tensor, before: tl.tensor,
    out: tl.tensor, kept: tl.tensor, count: tl.tensor, scale: tl.tensor, k0: tl.tensor,
    k1: tl.tensor, k2: tl.tensor, m0: tl.tensor, m1: tl.tensor, block: tl.constexpr,
    has_unconditional: tl.constexpr, has_before: tl.constexpr,
) -> None:  # fmt: skip
    """A block of elements."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = place < count
    latent = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    eps = tl.load(conditional + place, mask=inside, other=0.0).to(tl.float32)
    if has_unconditional:
        free = tl.load(unconditional + place, mask=inside, other=0.0).to(tl.float32)
        eps = free + scale * (eps - free)
    moved = k0 * latent + k1 * eps
    if has_before:
        moved += k2 * tl.load(before + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, moved.to(out.dtype.element_ty), mask=inside)
    tl.store(kept + place, (m0 * latent + m1 * eps).to(kept.dtype.element_ty), mask=inside)


def geglu(x: Tensor, how: Mapping[str, int]) -> Tensor:
    """See `wsicodec.ops.geglu`; x is (..., 2 width), contiguous.

    Args:
        x: values, then gates.
        how: "rows", "columns", "warps", "stages".
    """
    width = x.shape[-1] // 2
    out = torch.empty((*x.shape[:-1], width), dtype=x.dtype, device=x.device)
    count = out.numel() // width
    start(
        geglu_kernel, (blocks(count, how["rows"]), blocks(width, how["columns"])), x, out, count,
        how=how, width=width, rows=how["rows"], columns=how["columns"],
    )  # fmt: skip
    return out


def residual(x: Tensor, h: Tensor, bias: Tensor, how: Mapping[str, int]) -> Tensor:
    """See `wsicodec.ops.residual`; x and h are channels last.

    Args:
        x: (n, c, h, w).
        h: likewise.
        bias: (c,).
        how: "rows", "columns", "warps", "stages".
    """
    out = torch.empty_like(x)
    width = x.shape[1]
    count = x.numel() // width
    start(
        residual_kernel, (blocks(count, how["rows"]), blocks(width, how["columns"])), x, h, bias,
        out, count, how=how, width=width, rows=how["rows"], columns=how["columns"],
    )  # fmt: skip
    return out


def guided_step(
    x: Tensor, conditional: Tensor, unconditional: Tensor | None, before: Tensor | None,
    scale: float, move: list[float], keep: list[float], how: Mapping[str, int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """See `wsicodec.ops.guided_step`; all tensors are laid out alike and dense.

    Args:
        x: latents.
        conditional: the estimate with the condition.
        unconditional: without it, or None.
        before: z of the last step, or None.
        scale: s.
        move: k0, k1, k2.
        keep: m0, m1.
        how: "block", "warps", "stages".
    """
    out, kept = torch.empty_like(x), torch.empty_like(x)
    free = conditional if unconditional is None else unconditional
    start(
        step_kernel, (blocks(x.numel(), how["block"]),), x, free, conditional,
        x if before is None else before, out, kept, x.numel(), scale, *move, *keep, how=how,
        block=how["block"], has_unconditional=unconditional is not None,
        has_before=before is not None,
    )  # fmt: skip
    return out, kept
