"""Runs every op's kernel in Triton's interpreter against its reference in float64.

A process of its own (see the test): the interpreter is chosen when Triton is imported. Prints, by
case, the error and what it may be. Fresh memory is full of NaN, so that what a kernel leaves
unwritten shows.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

import wsicodec_kernels.group_norm
from wsicodec.ops import folds, reference
from wsicodec.ops.dispatch import assumed, use_table
from wsicodec.ops.forms import FORMS

# Of the norm of the error over that of the answer. Sums are float32 and the answer is rounded
# once; the weights of a softmax are rounded too, and the interpreter truncates to bfloat16.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
BYTES = 0.01  # share of bytes that may fall on the other side of a rounding
CARD = "interpreter"
TILE = {"warps": 4, "stages": 2}
SMALL = {"rows": 16, "columns": 16, "chunk": 32} | TILE
LAUNCHES: dict[str, list[tuple[dict[str, list[int]], dict[str, int]]]] = {
    "attention": [
        ({"keys": [1, 80]}, {**SMALL, "columns": 0}),
        ({"width": [384, 512]}, {**SMALL, "columns": 64}),
    ],
    "group_norm": [({}, {"block": 16} | TILE)],
    "channel_norm": [({}, {"lanes": 1024} | TILE)],
    "guided_step": [({}, {"block": 64} | TILE)],
    "blend_windows": [({}, {"rows": 8, "columns": 32} | TILE)],
}


def table() -> str:
    """A dispatch table of small tiles for a card that is none."""
    found = {}
    for form in FORMS:
        op = form.removeprefix("_")
        found[op] = [
            {"cards": [CARD], "shape": shape, "launch": launch, "reason": "test"}
            for shape, launch in LAUNCHES.get(op, [({}, SMALL)])
        ]
    return json.dumps(found)


class Draw:
    """Tensors of one dtype from one seed."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, self.generator = dtype, torch.Generator().manual_seed(1)

    def __call__(self, *shape: int, mean: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
        made = torch.randn(shape, generator=self.generator) + mean
        return made.to(dtype or self.dtype)

    def map(self, *shape: int, mean: float = 0.0) -> Tensor:
        return self(*shape, mean=mean).contiguous(memory_format=torch.channels_last)

    def wide(self, *shape: int, mean: float = 0.0) -> Tensor:
        return self(*shape, mean=mean, dtype=torch.float32)


Case = tuple[str, str, tuple[Any, ...]]  # name, op, arguments


def matrix_cases(draw: Draw) -> Iterator[Case]:
    """Ops that multiply matrices."""
    for width, keys, heads in ((48, 7, 1), (96, 65, 2), (384, 90, 1), (512, 81, 1)):
        full, queries = width * heads, 19
        both = draw(2, keys, 2 * full)
        given = (draw(2, queries, full), both[..., :full], both[..., full:])
        added = (draw(2, queries, full), draw(full)) if heads == 1 else (None, None)
        yield f"{width} wide, {keys} keys", "attention", (*given, *added, heads, width**-0.5)
    context = draw.wide(2, 9, 24)
    square = [draw.wide(64, 64) / 8 for _ in range(2)]
    to_context = [draw.wide(64, 24) / 5 for _ in range(2)]
    norm = (draw.wide(64, mean=1.0), draw.wide(64))
    fold = folds.fold_projections(square[0], to_context[0], to_context[1], square[1], norm)
    told = folds.fold_condition(context.to(draw.dtype), fold, draw.wide(64))
    matrices = (told.scores_of, told.sums, told.offsets, told.answers, told.bias)
    last = (draw.wide(64), draw.wide(64), 9, 1e-5)
    for name, items in (("all told", 2), ("first silent", 3)):
        yield name, "condition", (draw(items, 21, 64, mean=0.5), *matrices, *last)
    kernel = draw(2, 2, 24, 2, 2, 32)
    yield "odd map", "upsample_conv", (draw.map(2, 32, 3, 5), kernel, draw(24))
    symbols = torch.randint(-128, 128, (9, 40), dtype=torch.int8, generator=draw.generator)
    index = torch.tensor([[0, 3, -1], [8, -1, 2]], dtype=torch.int32)
    rest = (draw.wide(40) / 50, draw.wide(40), index, draw(24, 40), draw(24), draw(24))
    yield "with padding", "project_symbols", (symbols, *rest)


def map_cases(draw: Draw) -> Iterator[Case]:
    """Ops that go over maps and lists once or twice."""
    for groups, widths, side in (
        (4, (12, 20), (5, 7)),
        (3, (30, 0), (1, 1)),
        (2, (40, 24), (7, 9)),
    ):
        n, width = 2, sum(widths)
        second = draw.map(n, widths[1], *side, mean=1.0) if widths[1] else None
        told = (draw(n, width), draw(n, 2 * width)) if groups == 4 else (draw(width), None)
        given = (draw.map(n, widths[0], *side, mean=3.0), draw.wide(width), draw.wide(width))
        more = (groups, 1e-5, groups != 2)
        yield f"{groups} groups of {width}", "group_norm", (*given, second, *told, *more)
    for act, framed in product((False, True), repeat=2):
        name = f"act {act}, framed {framed}"
        yield name, "channel_norm", (draw.map(3, 24, 5, 13), draw.wide(24), act, 1e-6, framed)
    for (name, side), framed in product((("map", (5, 7)), ("vector", (1, 1))), (False, True)):
        film = draw.map(2, 40, *side)
        yield f"{name}, framed {framed}", "film_silu", (draw.map(2, 20, 5, 7), film, framed)
    yield "odd", "geglu", (draw(3, 5, 40),)
    yield "odd", "residual", (draw.map(2, 20, 3, 5), draw.map(2, 20, 3, 5), draw(20))
    latents = tuple(draw(2, 3, 5, 7) for _ in range(4))
    rest = (1.5, [0.9, -0.4, 0.2], [1.1, -0.3])
    yield "guided", "guided_step", (*latents, *rest)
    yield "alone", "guided_step", (*latents[:2], None, None, *rest)
    cells = draw.map(2, 3, 4, 5)
    yield "fifty codes", "nearest_entry", (cells, draw(50, 3), draw(50, 5))
    origins = torch.tensor([[0, 0], [-2, 5], [4, 2]], dtype=torch.int32)
    weights = draw.wide(8, 8).abs() + 0.1
    yield "sticking out", "blend_windows", (draw.map(3, 3, 8, 8), weights, origins, 12, 15, 0.5)
    cut = torch.zeros(8, 8)
    cut[2:6, 2:6] = 1
    below = torch.tensor([[-2, -2], [2, -2], [6, -2]], dtype=torch.int32)
    yield "halos cut off", "blend_windows", (draw.map(3, 3, 8, 8), cut, below, 12, 4, 0.5)


def expected(op: str, arguments: tuple[Any, ...]) -> Any:
    """The reference in float64."""
    wide = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    if op == "condition":
        wide[1:5] = [tuple(wide[1:5])]
    return getattr(reference, op)(*wide)


def error(got: Tensor, wanted: Tensor) -> float:
    """Relative error, infinite where anything was left unwritten."""
    if got.dtype == torch.uint8:
        apart = (got.int() - wanted.int()).abs()
        return float("inf") if apart.max() > 1 else float((apart > 0).double().mean())
    if not torch.isfinite(got).all():
        return float("inf")
    return float(torch.linalg.norm(got.double() - wanted) / torch.linalg.norm(wanted))


def run(case: Case) -> float:
    """The largest error of a case's outputs."""
    _, op, arguments = case
    got, wanted = FORMS["_" + op](*arguments), expected(op, arguments)
    pairs = zip(got, wanted, strict=True) if isinstance(got, tuple) else ((got, wanted),)
    return max(error(*pair) for pair in pairs)


def poisoned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """What stands in for fresh memory: a value that is left in it shows in the answer."""

    def made(*shape: Any, **kinds: Any) -> Tensor:
        fresh = make(*shape, **kinds)
        return fresh.fill_(float("nan") if fresh.is_floating_point() else 99)

    return made


def main() -> None:
    """Print every case's error, tolerance and seconds, as JSON."""
    path = Path(tempfile.mkdtemp()) / "table.json"
    path.write_text(table(), "utf-8")
    use_table(path)
    found = {}
    for dtype, most in TOLERANCE.items():
        for case in (*matrix_cases(Draw(dtype)), *map_cases(Draw(dtype))):
            began = time.perf_counter()
            off = run(case)
            limit = BYTES if case[1] == "blend_windows" else most
            found[f"{case[1]} {case[0]} {dtype}"] = (off, limit, time.perf_counter() - began)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    with (
        assumed(CARD),
        patch.object(torch, "empty", poisoned(torch.empty)),
        patch.object(torch, "empty_like", poisoned(torch.empty_like)),
        patch.multiple(wsicodec_kernels.group_norm, WHOLE=40, PARTS=3, SHORTEST=16),
    ):
        main()
