"""Element by element: gates, residuals, a solver's step."""

import torch
from torch import Tensor

from wsicodec.ops import reference
from wsicodec.ops.dispatch import dense, launch_of, wanted
from wsicodec.ops.forms import registered


def _half(x: Tensor) -> Tensor:
    return torch.empty((*x.shape[:-1], x.shape[-1] // 2), dtype=x.dtype, device=x.device)


@registered(_half)
def _geglu(x: Tensor) -> Tensor:
    how = launch_of("geglu", x)
    if how is None:
        return reference.geglu(x).contiguous()
    from wsicodec_kernels.pointwise import geglu as kernel

    return kernel(x.contiguous(), how)


def geglu(x: Tensor) -> Tensor:
    """The first half of the channels times the exact GELU of the second (Shazeer 2020).

    Args:
        x: (..., 2 width).
    """
    return (_geglu if wanted(x) else reference.geglu)(x)


def _like_the_map(x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@registered(_like_the_map)
def _residual(x: Tensor, h: Tensor, bias: Tensor) -> Tensor:
    how = launch_of("residual", x)
    if how is None:
        return dense(reference.residual(x, h, bias))
    from wsicodec_kernels.pointwise import residual as kernel

    return kernel(dense(x), dense(h), bias, how)


def residual(x: Tensor, h: Tensor, bias: Tensor) -> Tensor:
    """X + h + bias, where h comes from a convolution that left its bias out.

    Args:
        x: map (n, c, h, w).
        h: map (n, c, h, w).
        bias: (c,).
    """
    return (_residual if wanted(x, h, bias) else reference.residual)(x, h, bias)


def _two_like(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    return tuple(torch.empty(x.shape, dtype=x.dtype, device=x.device) for _ in range(2))  # type: ignore[return-value]


@registered(_two_like)
def _guided_step(
    x: Tensor,
    conditional: Tensor,
    unconditional: Tensor | None,
    before: Tensor | None,
    scale: float,
    move: list[float],
    keep: list[float],
) -> tuple[Tensor, Tensor]:
    how = launch_of("guided_step", x)
    if how is None:
        given = (x, conditional, unconditional, before)
        out, kept = reference.guided_step(*given, scale, move, keep)
        return out.contiguous(), kept.contiguous()
    from wsicodec_kernels.pointwise import guided_step as kernel

    free, last = (None if t is None else t.contiguous() for t in (unconditional, before))
    return kernel(x.contiguous(), conditional.contiguous(), free, last, scale, move, keep, how)


def guided_step(
    x: Tensor,
    conditional: Tensor,
    unconditional: Tensor | None = None,
    before: Tensor | None = None,
    *,
    scale: float = 1.0,
    move: tuple[float, float, float],
    keep: tuple[float, float] = (0.0, 1.0),
) -> tuple[Tensor, Tensor]:
    """Eps = eps_u + s (eps_c - eps_u), x' = k0 x + k1 eps + k2 z and z' = m0 x + m1 eps.

    Every linear solver is such a step: DDIM (Song, Meng, Ermon 2021) has k2 = 0, DPM-Solver++(2M)
    (Lu et al. 2022) keeps its clean estimate, PLMS a mixture of older estimates.

    Args:
        x: latents, any shape.
        conditional: eps_c.
        unconditional: eps_u, or None where s is 1 or mixed in already.
        before: z, or None for a first step.
        scale: s.
        move: k0, k1, k2.
        keep: m0, m1; the estimate itself by default.
    """
    tensors = (x, conditional, unconditional, before)
    run = _guided_step if wanted(*tensors) else reference.guided_step
    return run(*tensors, scale, list(move), list(keep))
