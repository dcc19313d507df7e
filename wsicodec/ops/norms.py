"""Norms and modulations of maps (n, c, h, w)."""

import torch
from torch import Tensor

from wsicodec.ops import reference
from wsicodec.ops.dispatch import dense, launch_of, wanted
from wsicodec.ops.forms import registered


def _room(x: Tensor, framed: bool) -> Tensor:
    more = 2 if framed else 0
    shape = (*x.shape[:2], x.shape[2] + more, x.shape[3] + more)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _like_the_stack(
    x: Tensor, _weight: Tensor, _bias: Tensor, second: Tensor | None, *_: object
) -> Tensor:
    width = x.shape[1] + (0 if second is None else second.shape[1])
    shape = (x.shape[0], width, *x.shape[2:])
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


@registered(_like_the_stack)
def _group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    second: Tensor | None,
    added: Tensor | None,
    film: Tensor | None,
    groups: int,
    eps: float,
    activate: bool,
) -> Tensor:
    how = launch_of("group_norm", x, size=weight.shape[0] // groups)
    if how is None:
        given = (weight, bias, second, added, film)
        return dense(reference.group_norm(x, *given, groups, eps, activate))
    from wsicodec_kernels.group_norm import group_norm as kernel

    under = None if second is None else dense(second)
    return kernel(dense(x), weight, bias, under, added, film, groups, eps, activate, how)


def group_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    second: Tensor | None = None,
    added: Tensor | None = None,
    film: Tensor | None = None,
    groups: int = 32,
    eps: float = 1e-5,
    activate: bool = True,
) -> Tensor:
    """SiLU of (1 + scale) GroupNorm(stack + added) + shift (Wu & He 2018; Perez et al. 2018).

    Args:
        x: map (n, c1, h, w).
        weight: gain (c1 + c2,).
        bias: offset (c1 + c2,).
        second: map (n, c2, h, w) stacked under x without being copied, or None.
        added: embedding of the time (n, c1 + c2), a bias (c1 + c2,), or None.
        film: scale, then shift (n, 2 (c1 + c2)), or None.
        groups: that the channels are divided into.
        eps: added to the variance.
        activate: whether SiLU follows.
    """
    fused = wanted(x, weight, bias, second, added, film)
    run = _group_norm if fused else reference.group_norm
    return run(x, weight, bias, second, added, film, groups, eps, activate)


def _normed(x: Tensor, _weight: Tensor, _activate: bool, _eps: float, framed: bool) -> Tensor:
    return _room(x, framed)


@registered(_normed)
def _channel_norm(x: Tensor, weight: Tensor, activate: bool, eps: float, framed: bool) -> Tensor:
    how = launch_of("channel_norm", x, width=x.shape[1])
    if how is None:
        return dense(reference.channel_norm(x, weight, activate, eps, framed))
    from wsicodec_kernels.norms import channel_norm as kernel

    return kernel(dense(x), weight, activate, eps, framed, how)


def channel_norm(
    x: Tensor,
    weight: Tensor,
    *,
    activate: bool = False,
    eps: float = 1e-6,
    framed: bool = False,
) -> Tensor:
    """Root-mean-square norm over the channels of every pixel (Zhang & Sennrich 2019).

    Args:
        x: map (n, c, h, w).
        weight: gain (c,).
        activate: whether SiLU follows.
        eps: added to the mean square.
        framed: whether to return a map a pixel larger on every side, where its border repeats.
    """
    run = _channel_norm if wanted(x, weight) else reference.channel_norm
    return run(x, weight, activate, eps, framed)


def _modulated(x: Tensor, _film: Tensor, framed: bool) -> Tensor:
    return _room(x, framed)


@registered(_modulated)
def _film_silu(x: Tensor, film: Tensor, framed: bool) -> Tensor:
    how = launch_of("film_silu", x, width=x.shape[1])
    if how is None:
        return dense(reference.film_silu(x, film, framed))
    from wsicodec_kernels.norms import film_silu as kernel

    return kernel(dense(x), dense(film), framed, how)


def film_silu(x: Tensor, film: Tensor, *, framed: bool = False) -> Tensor:
    """SiLU of (1 + scale) x + shift (FiLM: Perez et al. 2018).

    Args:
        x: map (n, c, h, w).
        film: scale, then shift: (n, 2c, 1, 1) or (n, 2c, h, w).
        framed: whether to return a map a pixel larger on every side, where its border repeats.
    """
    return (_film_silu if wanted(x, film) else reference.film_silu)(x, film, framed)
