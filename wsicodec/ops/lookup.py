"""Symbols to tokens, latents to the entries of their nearest codes."""

import torch
from torch import Tensor

from wsicodec.ops import reference
from wsicodec.ops.dispatch import dense, launch_of, wanted
from wsicodec.ops.forms import registered


def _tokens(
    _symbols: Tensor, _steps: Tensor, _offsets: Tensor, index: Tensor, weight: Tensor, *_: object
) -> Tensor:
    shape = (*index.shape, weight.shape[0])
    return torch.empty(shape, dtype=weight.dtype, device=weight.device)


@registered(_tokens)
def _project_symbols(
    symbols: Tensor,
    steps: Tensor,
    offsets: Tensor,
    index: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor,
) -> Tensor:
    how = launch_of("project_symbols", weight, bytes=weight.element_size())
    if how is None:
        given = (symbols, steps, offsets, index, weight, bias, padding)
        return reference.project_symbols(*given).contiguous()
    from wsicodec_kernels.lookup import project_symbols as kernel

    return kernel(
        symbols.contiguous(),
        steps.contiguous(),
        offsets.contiguous(),
        index.contiguous(),
        weight.contiguous(),
        bias.contiguous(),
        padding.contiguous(),
        how,
    )


def project_symbols(
    symbols: Tensor,
    steps: Tensor,
    offsets: Tensor,
    index: Tensor,
    weight: Tensor,
    bias: Tensor,
    padding: Tensor,
) -> Tensor:
    """Dequantise rows of a grid, gather them and project them: weight (s step + offset) + bias.

    Args:
        symbols: (p, d) integers as stored, so that one byte a value crosses the bus.
        steps: (d,) float32, width of a bin.
        offsets: (d,) float32.
        index: (n, k) int32 rows of `symbols`; below 0 the padding token stands.
        weight: (width, d).
        bias: (width,).
        padding: (width,).

    Returns:
        Tokens (n, k, width).
    """
    given = (symbols, steps, offsets, index, weight, bias, padding)
    return (_project_symbols if wanted(*given) else reference.project_symbols)(*given)


def _entries(latent: Tensor, _codes: Tensor, table: Tensor) -> Tensor:
    shape = (latent.shape[0], table.shape[1], *latent.shape[2:])
    return torch.empty(
        shape, dtype=table.dtype, device=table.device, memory_format=torch.channels_last
    )


@registered(_entries)
def _nearest_entry(latent: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    how = launch_of("nearest_entry", latent, width=latent.shape[1])
    if how is None:
        return dense(reference.nearest_entry(latent, codes, table))
    from wsicodec_kernels.lookup import nearest_entry as kernel

    return kernel(dense(latent), codes.contiguous(), table.contiguous(), how)


def nearest_entry(latent: Tensor, codes: Tensor, table: Tensor) -> Tensor:
    """What a table holds for the code nearest to every cell (van den Oord et al. 2017).

    Args:
        latent: map (n, c, h, w).
        codes: (k, c).
        table: (k, d), such as the codes behind the next projection, or the codes themselves.

    Returns:
        (n, d, h, w).
    """
    run = _nearest_entry if wanted(latent, codes, table) else reference.nearest_entry
    return run(latent, codes, table)
