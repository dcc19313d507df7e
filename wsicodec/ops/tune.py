"""Times launches of the kernels on the card at hand and writes a dispatch table.

    python -m wsicodec.ops.tune tuned.json          then: wsicodec.ops.use_table("tuned.json")

Only ops whose speed depends on how they start are tried. A launch that does not fit the card, or
whose answer is not the reference's, is left out; where the reference is faster than all, the table
says so. Every row names the card and its times.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsicodec.errors import ConfigError
from wsicodec.ops import dispatch, reference
from wsicodec.ops.forms import FORMS

BATCH = 8
ROUNDS = 15
CLOSE = 2e-2  # of the norm of the answer, in bfloat16
_VARIANTS = {"rows": (32, 64, 128), "columns": (0, 16, 32, 64, 128), "chunk": (32, 64, 128)}
_SPEEDS = {"warps": (4, 8), "stages": (1, 2, 3, 4)}


@dataclass(frozen=True)
class Example:
    """An op at a shape of the published networks."""

    op: str
    shape: Mapping[str, tuple[int, int]]  # that a row found with it is for
    make: Callable[[], tuple[Any, ...]]


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


def _attention(tokens: int, width: int) -> tuple[Any, ...]:
    q, k, v = (_draw(BATCH, tokens, width) for _ in range(3))
    return q, k, v, q, _draw(width), 1, width**-0.5


def _condition(tokens: int, width: int) -> tuple[Any, ...]:
    scores, answers = _draw(BATCH, width, 128) * width**-0.5, _draw(BATCH, 128, width)
    sums, vectors = scores.float().sum(1), (_draw(width) for _ in range(3))
    return _draw(BATCH, tokens, width), scores, sums, sums, answers, *vectors, 65, 1e-5


def _upsample(side: int, width: int) -> tuple[Any, ...]:
    kernel = _draw(2, 2, width, 2, 2, width) * width**-0.5
    x = _draw(BATCH, width, side, side)
    return x.contiguous(memory_format=torch.channels_last), kernel, _draw(width)


def _group_norm(side: int, width: int) -> tuple[Any, ...]:
    x = _draw(BATCH, width, side, side).contiguous(memory_format=torch.channels_last)
    return x, _draw(width), _draw(width), None, _draw(BATCH, width), None, 32, 1e-5, True


def examples() -> Iterator[Example]:
    """What is tried."""
    for tokens, width in ((1024, 384), (256, 576), (64, 960), (4096, 512)):
        keys = (tokens, tokens) if tokens <= 256 else (257, 65536)
        shape = {"width": (width, width), "keys": keys, "heads": (1, 1), "bytes": (2, 2)}
        yield Example("attention", shape, lambda t=tokens, w=width: _attention(t, w))  # type: ignore[misc]
    shape = {"over": (0, 0), "columns": (16, 128), "bytes": (2, 2)}
    yield Example("condition", shape, lambda: _condition(1024, 384))
    yield Example("upsample_conv", {"over": (0, 0), "bytes": (2, 2)}, lambda: _upsample(32, 384))
    yield Example("group_norm", {"size": (1, 64)}, lambda: _group_norm(32, 384))


def variants(launch: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Launches with the same settings as a known one; what streams goes on streaming."""
    settings = {name: _VARIANTS.get(name, _SPEEDS.get(name, (n,))) for name, n in launch.items()}
    if "columns" in settings and "rows" in settings:
        columns = launch["columns"]
        settings["columns"] = tuple(c for c in _VARIANTS["columns"] if bool(c) == bool(columns))
    if "block" in settings:
        settings["block"] = (32, 64, 128)
    for values in itertools.product(*settings.values()):
        yield dict(zip(settings, values, strict=True))


def seconds(run: Callable[[], object]) -> float:
    """Median of some runs on the card."""
    found = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        found.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(found)


def _first(answer: Any) -> Tensor:
    return (answer[0] if isinstance(answer, tuple) else answer).float()


def tried(example: Example, launch: Mapping[str, int], arguments: tuple[Any, ...]) -> float | None:
    """Seconds of a launch, or None where it does not fit or is wrong."""
    row = dispatch.Row(dispatch.names_of(arguments[0].device), {}, launch, "tried")
    form = FORMS["_" + example.op]
    with dispatch.trial({example.op: (row,)}):
        try:
            got = _first(form(*arguments))
            wanted = _first(_reference(example.op, arguments))
            if not torch.linalg.norm(got - wanted) <= CLOSE * torch.linalg.norm(wanted):
                return None
            return seconds(lambda: form(*arguments))
        except (RuntimeError, ValueError):  # of Triton: resources, shapes it cannot compile
            return None


def _reference(op: str, arguments: tuple[Any, ...]) -> Any:
    if op == "condition":
        arguments = (arguments[0], arguments[1:5], *arguments[5:])
    return getattr(reference, op)(*arguments)


def tune(example: Example) -> dispatch.Row | None:
    """The fastest launch of an example on this card; None where none is known to start from."""
    arguments = example.make()
    card = dispatch.names_of(arguments[0].device)
    shape = {name: low for name, (low, _) in example.shape.items()}
    known = dispatch.row_of(example.op, card, shape)
    if known is None or known.launch is None:
        return None
    timed = ((tried(example, how, arguments), how) for how in variants(known.launch))
    plain = seconds(lambda: _reference(example.op, arguments))
    best, how = min(
        ((took, how) for took, how in timed if took is not None),
        key=lambda pair: pair[0],
        default=(plain, None),
    )
    reason = f"measured at batch {BATCH}: {best * 1e6:.0f} us, reference {plain * 1e6:.0f} us"
    return dispatch.Row(card[:1], example.shape, how if best < plain else None, reason)


def main(arguments: list[str] | None = None) -> None:
    """Write the table; raises ConfigError without a card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("out", type=Path, help="the table to write, JSON")
    options = parser.parse_args(arguments)
    if not (torch.cuda.is_available() and dispatch.HAS_KERNELS):
        raise ConfigError(
            "expected a CUDA device and Triton to tune for, found none; the shipped table holds "
            "what builds without spills and was not measured"
        )
    table = {op: list(rows) for op, rows in dispatch.shipped().items()}
    for example in reversed(list(examples())):
        row = tune(example)
        if row is not None:
            table[example.op].insert(0, row)
            print(example.op, row)
    found = {op: [row.to_json() for row in rows] for op, rows in table.items()}
    options.out.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
