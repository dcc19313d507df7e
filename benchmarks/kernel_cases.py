"""Every fused op at the shapes that the published networks ask it for, on any device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

Make = Callable[[int, "Draw"], tuple[Any, ...]]


@dataclass(frozen=True)
class Draw:
    """Random tensors of a device and a type; on "meta", none."""

    device: str
    dtype: torch.dtype
    seed: int = 0

    def __call__(self, *shape: int, scale: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        kind = dtype or self.dtype
        if self.device == "meta":
            return torch.empty(shape, dtype=kind, device="meta")
        # Drawn on the CPU, so that a seed means the same on every card.
        source = torch.Generator().manual_seed(self.seed + sum(shape))
        return (torch.randn(shape, generator=source) * scale).to(self.device, kind)

    def map(self, *shape: int) -> Tensor:
        return self(*shape).contiguous(memory_format=torch.channels_last)

    def wide(self, *shape: int, scale: float = 1.0) -> Tensor:
        return self(*shape, scale=scale, dtype=torch.float32)

    def whole(self, *shape: int, low: int, high: int, dtype: torch.dtype) -> Tensor:
        if self.device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        source = torch.Generator().manual_seed(self.seed)
        return torch.randint(low, high, shape, generator=source).to(self.device, dtype)


@dataclass(frozen=True)
class Case:
    """An op and how to make its arguments for a batch."""

    op: str
    name: str
    make: Make
    bytes: int = 0  # per item that must be read and written, where that is what counts
    flops: int = 0  # per item, where that is what counts

    @property
    def title(self) -> str:
        """Op and shape."""
        return f"{self.op} {self.name}"


def _self_attention(tokens: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    both = draw(batch, tokens, 2 * width)
    x = draw(batch, tokens, width)
    return both[..., :width], x, both[..., width:], x, draw(width), 1, width**-0.5


def _cross_attention(tokens: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    both = draw(batch, 65, 2 * width)
    q = draw(batch, tokens, width)
    return q, both[..., :width], both[..., width:], None, None, 1, width**-0.5


def _condition(tokens: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    scores = draw(batch, width, 128, scale=width**-0.5)
    rest = (draw.wide(batch, 128), draw(batch, 128, width))
    vectors = (draw(width), draw(width), draw(width))
    sums = scores if scores.is_meta else scores.float().sum(1)
    sums = draw.wide(batch, 128) if scores.is_meta else sums
    return draw(batch, tokens, width), scores, sums, *rest, *vectors, 65, 1e-5


def _group_norm(side: int, widths: tuple[int, int], batch: int, draw: Draw) -> tuple[Any, ...]:
    first, under = widths
    second = draw.map(batch, under, side, side) if under else None
    vectors = (draw.wide(first + under), draw.wide(first + under))
    x, added = draw.map(batch, first, side, side), draw(batch, first + under)
    return x, *vectors, second, added, None, 32, 1e-5, True


def _upsample(side: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    kernel = draw(2, 2, width, 2, 2, width, scale=(4 * width) ** -0.5)
    return draw.map(batch, width, side, side), kernel, draw(width)


def _geglu(tokens: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    return (draw(batch, tokens, 8 * width),)


def _residual(side: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    shape = (batch, width, side, side)
    return draw.map(*shape), draw.map(*shape), draw(width)


def _step(batch: int, draw: Draw) -> tuple[Any, ...]:
    latents = (draw(batch, 3, 64, 64) for _ in range(4))
    return *latents, 2.0, [0.9, -0.4, 0.2], [1.1, -0.3]


def _project(batch: int, draw: Draw) -> tuple[Any, ...]:
    symbols = draw.whole(4096, 384, low=-128, high=128, dtype=torch.int8)
    index = draw.whole(batch, 65, low=-1, high=4096, dtype=torch.int32)
    weight = draw(512, 384, scale=384**-0.5)
    return symbols, draw.wide(384), draw.wide(384), index, weight, draw(512), draw(512)


def _nearest(batch: int, draw: Draw) -> tuple[Any, ...]:
    cells = draw.wide(batch, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    return cells, draw.wide(8192, 3), draw(8192, 3)


def _blend(batch: int, draw: Draw) -> tuple[Any, ...]:
    windows = draw.map(batch + 1, 3, 256, 256)
    index = torch.arange(batch + 1, dtype=torch.int32, device=draw.device)[:, None]
    origins = index * torch.tensor([[0, 192]], dtype=torch.int32, device=draw.device)
    weights = torch.ones((256, 256), device=draw.device)
    return windows, weights, origins, 256, 192 * batch + 256, 0.5


def _channel_norm(side: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    return draw.map(batch, width, side, side), draw.wide(width), True, 1e-6, False


def _film(side: int, width: int, batch: int, draw: Draw) -> tuple[Any, ...]:
    return draw.map(batch, width, side, side), draw.map(batch, 2 * width, side, side), False


def cases() -> list[Case]:
    """All of them; bytes count bfloat16 maps."""
    found = []
    for tokens, width in ((1024, 384), (256, 576), (64, 960), (4096, 512)):
        self_attention = partial(_self_attention, tokens, width)
        work = 4 * tokens * tokens * width
        name = f"{width} wide, {tokens} queries and keys"
        found.append(Case("attention", name, self_attention, flops=work))
    for tokens, width in ((1024, 384), (256, 576), (64, 960)):
        name = f"{width} wide, {tokens} queries, 65 keys"
        found.append(Case("attention", name, partial(_cross_attention, tokens, width)))
        name, size = f"{width} wide, {tokens} tokens", 2 * tokens * width
        condition = partial(_condition, tokens, width)
        found.append(Case("condition", name, condition, bytes=3 * size))
    stacks = ((64, (192, 0)), (32, (384, 0)), (32, (576, 384)), (8, (960, 960)))
    for side, widths in (*stacks, (64, (512, 0)), (256, (128, 0))):
        name = f"{'+'.join(str(w) for w in widths if w)} wide, {side} x {side}"
        size, norm = 2 * side * side * sum(widths), partial(_group_norm, side, widths)
        found.append(Case("group_norm", name, norm, bytes=3 * size))
    for side, width in ((8, 960), (16, 576), (32, 384), (64, 512)):
        name, work = f"{width} wide, {side} x {side}", 2 * 16 * side * side * width * width
        found.append(Case("upsample_conv", name, partial(_upsample, side, width), flops=work))
    size = 2 * 64 * 64 * 192
    found += [
        Case("geglu", "384 wide, 1024 tokens", partial(_geglu, 1024, 384), 2 * 12 * 384 * 1024),
        Case("residual", "192 wide, 64 x 64", partial(_residual, 64, 192), bytes=3 * size),
        Case("guided_step", "3 x 64 x 64", _step),
        Case("project_symbols", "65 tokens, 384 to 512", _project),
        Case("nearest_entry", "64 x 64, 8192 codes", _nearest),
        Case("blend_windows", "256 x 256", _blend),
        Case("channel_norm", "128 wide, 40 x 40", partial(_channel_norm, 40, 128)),
        Case("film_silu", "128 wide, 40 x 40", partial(_film, 40, 128)),
    ]
    return found
