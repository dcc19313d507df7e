"""Group norm with what stands around it, over channels-last maps and their virtual concatenation.

    y = f((1 + s) ((x + e - mean) / sqrt(var + eps) w + b) + t) (Wu & He 2018; Perez et al. 2018)

with e the embedding of the time, s and t a FiLM's scale and shift, f SiLU or nothing. x is one map
or two whose channels are stacked: the stack is never written. Everything is float32 inside.

A program owns whole groups, about 64 channels. Maps of up to `WHOLE` pixels take one launch, which
reads twice, the second time from the cache; larger ones take two: moments of every block of
pixels, then all blocks of a group are merged by every program that applies them. Means and squared
deviations are merged in a fixed order (Chan, Golub, LeVeque 1979): no atomics, no difference of
large squares.
"""

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from wsicodec_kernels.launch import blocks, power_of_two, start

WHOLE = 1024  # pixels that one launch normalises
LANES = 64  # channels per program
PARTS = 64  # that a larger map is cut into at most
SHORTEST = 256  # pixels of such a part at least


@triton.jit
def _load(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, sample: tl.tensor, row: tl.tensor,
    channel: tl.tensor, inside: tl.tensor, pixels: tl.tensor, first_width: tl.constexpr,
    width: tl.constexpr, has_added: tl.constexpr,
) -> Any:  # fmt: skip
    """Values of a block of the stack, with the embedding; zero outside."""
    place = sample * pixels + row[:, None]
    here = inside & (channel < first_width)[None, :]
    values = tl.load(x + place * first_width + channel[None, :], mask=here, other=0.0)
    values = values.to(tl.float32)
    if width > first_width:
        there = inside & (channel >= first_width)[None, :]
        place = place * (width - first_width) + (channel - first_width)[None, :]
        values += tl.load(second + place, mask=there, other=0.0).to(tl.float32)
    if has_added:
        more = tl.load(added + channel, mask=channel < width, other=0.0).to(tl.float32)
        values = tl.where(inside, values + more[None, :], 0.0)
    return values


@triton.jit
def _moments(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, sample: tl.tensor, channel: tl.tensor,
    real: tl.tensor, begin: tl.tensor, end: tl.tensor, pixels: tl.tensor, length: tl.constexpr,
    block: tl.constexpr, lanes: tl.constexpr, first_width: tl.constexpr, width: tl.constexpr,
    has_added: tl.constexpr,
) -> Any:  # fmt: skip
    """Mean and squared deviations of every channel over the pixels from `begin` to `end`."""
    mean = tl.zeros((lanes,), tl.float32)
    power = tl.zeros((lanes,), tl.float32)
    count = 0.0
    for offset in range(0, length, block):
        row = begin + offset + tl.arange(0, block)
        inside = (row < end)[:, None] & real[None, :]
        values = _load(
            x, second, added, sample, row, channel, inside, pixels, first_width, width, has_added
        )
        fresh = tl.maximum(tl.minimum(end - begin - offset, block), 0).to(tl.float32)
        here = tl.sum(values, 0) / tl.maximum(fresh, 1.0)
        away = tl.where(inside, values - here[None, :], 0.0)
        apart = here - mean
        total = tl.maximum(count + fresh, 1.0)
        power += tl.sum(away * away, 0) + apart * apart * (count * fresh / total)
        mean += apart * (fresh / total)
        count += fresh
    return mean, power


@triton.jit
def _grouped(
    mean: tl.tensor, power: tl.tensor, real: tl.tensor, count: tl.tensor, size: tl.constexpr,
    groups: tl.constexpr, lanes: tl.constexpr,
) -> Any:  # fmt: skip
    """Mean and squared deviations of every group from its channels', `count` pixels each."""
    lane = tl.arange(0, lanes)
    member = (lane[None, :] // size == tl.arange(0, groups)[:, None]) & real[None, :]
    total = tl.sum(tl.where(member, mean[None, :], 0.0), 1) / size
    away = tl.where(member, mean[None, :] - total[:, None], 0.0)
    squares = tl.sum(tl.where(member, power[None, :], 0.0), 1) + tl.sum(away * away, 1) * count
    return total, squares


@triton.jit
def _spread(
    values: tl.tensor, size: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr
) -> Any:
    """What belongs to a group, given to each of its channels."""
    member = tl.arange(0, lanes)[None, :] // size == tl.arange(0, groups)[:, None]
    return tl.sum(tl.where(member, values[:, None], 0.0), 0)


@triton.jit
def _apply(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, film: tl.tensor, weight: tl.tensor,
    bias: tl.tensor, out: tl.tensor, mean: tl.tensor, gain: tl.tensor, sample: tl.tensor,
    channel: tl.tensor, real: tl.tensor, begin: tl.tensor, end: tl.tensor, pixels: tl.tensor,
    length: tl.constexpr, block: tl.constexpr, first_width: tl.constexpr, width: tl.constexpr,
    has_added: tl.constexpr, has_film: tl.constexpr, activate: tl.constexpr,
) -> None:  # fmt: skip
    gain *= tl.load(weight + channel, mask=real, other=0.0).to(tl.float32)
    shift = tl.load(bias + channel, mask=real, other=0.0).to(tl.float32)
    if has_film:
        scale = 1.0 + tl.load(film + channel, mask=real, other=0.0).to(tl.float32)
        gain *= scale
        shift *= scale
        shift += tl.load(film + width + channel, mask=real, other=0.0).to(tl.float32)
    for offset in range(0, length, block):
        row = begin + offset + tl.arange(0, block)
        inside = (row < end)[:, None] & real[None, :]
        values = _load(
            x, second, added, sample, row, channel, inside, pixels, first_width, width, has_added
        )
        values = (values - mean[None, :]) * gain[None, :] + shift[None, :]
        if activate:
            values = values * tl.sigmoid(values)
        place = (sample * pixels + row[:, None]) * width + channel[None, :]
        tl.store(out + place, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def group_norm_kernel(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, film: tl.tensor, weight: tl.tensor,
    bias: tl.tensor, out: tl.tensor, added_row: tl.tensor, film_row: tl.tensor, eps: tl.tensor,
    pixels: tl.constexpr, block: tl.constexpr, size: tl.constexpr, bundle: tl.constexpr,
    groups: tl.constexpr, lanes: tl.constexpr, first_width: tl.constexpr, width: tl.constexpr,
    has_added: tl.constexpr, has_film: tl.constexpr, activate: tl.constexpr,
) -> None:  # fmt: skip
    """`bundle` groups of one sample, all pixels."""
    sample = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, lanes)
    channel = tl.program_id(0) * (bundle * size) + lane
    real = (lane < bundle * size) & (channel < width)
    added += sample * added_row
    mean, power = _moments(
        x, second, added, sample, channel, real, 0, pixels, pixels, pixels, block, lanes,
        first_width, width, has_added,
    )  # fmt: skip
    mean, power = _grouped(mean, power, real, pixels, size, groups, lanes)
    gain = 1.0 / tl.sqrt(power / (pixels * size) + eps)
    _apply(
        x, second, added, film + sample * film_row, weight, bias, out,
        _spread(mean, size, groups, lanes), _spread(gain, size, groups, lanes), sample, channel,
        real, 0, pixels, pixels, pixels, block, first_width, width, has_added, has_film, activate,
    )  # fmt: skip


@triton.jit
def group_moments_kernel(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, moments: tl.tensor, added_row: tl.tensor,
    pixels: tl.tensor, length: tl.constexpr, block: tl.constexpr, size: tl.constexpr,
    bundle: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, first_width: tl.constexpr,
    width: tl.constexpr, has_added: tl.constexpr,
) -> None:  # fmt: skip
    """`bundle` groups of one sample in one part of its pixels: (n, parts, groups, 2)."""
    sample = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, lanes)
    channel = tl.program_id(0) * (bundle * size) + lane
    real = (lane < bundle * size) & (channel < width)
    begin = tl.program_id(2) * length
    end = tl.minimum(begin + length, pixels)
    mean, power = _moments(
        x, second, added + sample * added_row, sample, channel, real, begin, end, pixels, length,
        block, lanes, first_width, width, has_added,
    )  # fmt: skip
    count = (end - begin).to(tl.float32)
    mean, power = _grouped(mean, power, real, count, size, groups, lanes)
    index = tl.arange(0, groups)
    group = tl.program_id(0) * bundle + index
    there = (index < bundle) & (group < width // size)
    slot = (sample * tl.num_programs(2) + tl.program_id(2)) * (width // size) + group
    tl.store(moments + 2 * slot, mean, mask=there)
    tl.store(moments + 2 * slot + 1, power, mask=there)


@triton.jit
def _merged(
    moments: tl.tensor, sample: tl.tensor, pixels: tl.tensor, length: tl.constexpr,
    parts: tl.constexpr, padded: tl.constexpr, size: tl.constexpr, bundle: tl.constexpr,
    groups: tl.constexpr, width: tl.constexpr,
) -> Any:  # fmt: skip
    """Mean and variance of the program's groups from all parts."""
    index = tl.arange(0, groups)
    group = tl.program_id(0) * bundle + index
    part = tl.arange(0, padded)
    there = (part < parts)[:, None] & ((index < bundle) & (group < width // size))[None, :]
    slot = (sample * parts + part[:, None]) * (width // size) + group[None, :]
    means = tl.load(moments + 2 * slot, mask=there, other=0.0)
    powers = tl.load(moments + 2 * slot + 1, mask=there, other=0.0)
    count = tl.maximum(tl.minimum(pixels - part * length, length), 0).to(tl.float32)
    count = tl.where(part < parts, count, 0.0)[:, None] * size
    total = tl.sum(count)
    mean = tl.sum(means * count, 0) / total
    away = tl.where(there, means - mean[None, :], 0.0)
    return mean, (tl.sum(powers, 0) + tl.sum(away * away * count, 0)) / total


@triton.jit
def group_apply_kernel(
    x: tl.tensor, second: tl.tensor, added: tl.tensor, film: tl.tensor, weight: tl.tensor,
    bias: tl.tensor, moments: tl.tensor, out: tl.tensor, added_row: tl.tensor,
    film_row: tl.tensor, eps: tl.tensor, pixels: tl.tensor, parts: tl.constexpr,
    padded: tl.constexpr, length: tl.constexpr, block: tl.constexpr, size: tl.constexpr,
    bundle: tl.constexpr, groups: tl.constexpr, lanes: tl.constexpr, first_width: tl.constexpr,
    width: tl.constexpr, has_added: tl.constexpr, has_film: tl.constexpr, activate: tl.constexpr,
) -> None:  # fmt: skip
    """Normalise `bundle` groups of one sample in one part of its pixels."""
    sample = tl.program_id(1).to(tl.int64)
    lane = tl.arange(0, lanes)
    channel = tl.program_id(0) * (bundle * size) + lane
    real = (lane < bundle * size) & (channel < width)
    mean, variance = _merged(
        moments, sample, pixels, length, parts, padded, size, bundle, groups, width
    )
    gain = 1.0 / tl.sqrt(variance + eps)
    begin = tl.program_id(2) * length
    _apply(
        x, second, added + sample * added_row, film + sample * film_row, weight, bias, out,
        _spread(mean, size, groups, lanes), _spread(gain, size, groups, lanes), sample, channel,
        real, begin, tl.minimum(begin + length, pixels), pixels, length, block, first_width, width,
        has_added, has_film, activate,
    )  # fmt: skip


def bundle_of(size: int) -> int:
    """Groups of `size` channels per program: those that fill its lanes, rows 16 bytes apart."""
    most = max(1, LANES // size)
    return next((n for n in range(most, 0, -1) if n * size % 8 == 0), most)


def _row(told: Tensor | None) -> int:
    """Elements from one sample's vector to the next; 0 for one vector of all samples."""
    return told.stride(0) if told is not None and told.ndim == 2 else 0


def group_norm(
    x: Tensor, weight: Tensor, bias: Tensor, second: Tensor | None, added: Tensor | None,
    film: Tensor | None, groups: int, eps: float, activate: bool, how: Mapping[str, int],
) -> Tensor:  # fmt: skip
    """See `wsicodec.ops.group_norm`; x and second are channels last, vectors' last stride is 1.

    Args:
        x: (n, c1, h, w).
        weight: (c1 + c2,).
        bias: (c1 + c2,).
        second: (n, c2, h, w), stacked under x, or None.
        added: (n, c1 + c2) or (c1 + c2,), or None.
        film: scale then shift, (n, 2 (c1 + c2)), or None.
        groups: that the stack's channels are divided into.
        eps: added to the variance.
        activate: whether SiLU follows.
        how: "block" (pixels at a time), "warps", "stages".
    """
    samples, first, height, across = x.shape
    width = first + (0 if second is None else second.shape[1])
    pixels, size = height * across, width // groups
    bundle = bundle_of(size)
    out = torch.empty(
        (samples, width, height, across), dtype=x.dtype, device=x.device,
        memory_format=torch.channels_last,
    )  # fmt: skip
    shared: dict[str, Any] = {
        "how": how, "block": how["block"], "size": size, "bundle": bundle,
        "groups": power_of_two(bundle), "lanes": power_of_two(bundle * size),
        "first_width": first, "width": width, "has_added": added is not None,
    }  # fmt: skip
    last: dict[str, Any] = {"has_film": film is not None, "activate": activate}
    maps = (x, x if second is None else second, bias if added is None else added)
    vectors = (weight if film is None else film, weight, bias)
    rows = (_row(added), _row(film))
    grid = (blocks(groups, bundle), samples)
    if pixels <= WHOLE:
        start(
            group_norm_kernel, grid, *maps, *vectors, out, *rows, eps, pixels=pixels,
            **shared, **last,
        )  # fmt: skip
        return out
    length = max(SHORTEST, blocks(pixels, PARTS))
    parts = blocks(pixels, length)
    moments = torch.empty((samples, parts, groups, 2), dtype=torch.float32, device=x.device)
    over = (*grid, parts)
    start(group_moments_kernel, over, *maps, moments, rows[0], pixels, length=length, **shared)
    start(
        group_apply_kernel, over, *maps, *vectors, moments, out, *rows, eps, pixels, parts=parts,
        padded=power_of_two(parts), length=length, **shared, **last,
    )  # fmt: skip
    return out
