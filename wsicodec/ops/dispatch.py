"""Which op of which shape runs fused on which card, and how its kernel starts.

`dispatch.json` holds rows by op; the first that names the card and bounds the shape decides:

    {"attention": [{"cards": ["sm_90"], "shape": {"width": [384, 384], "keys": [257, 16384]},
                    "launch": {"rows": 64, ...}, "reason": "not measured on a card: ..."}]}

A card is named as CUDA names it or by its compute capability. A row without a launch, or no row,
means the reference. Nothing is tuned at run time and no environment variable is read:
`python -m wsicodec.ops.tune` writes a table of the card at hand and `use_table` takes it.
"""

import importlib.util
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsicodec.errors import ConfigError

HAS_KERNELS = importlib.util.find_spec("triton") is not None
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Row:
    """What is known of one op on some cards."""

    cards: tuple[str, ...]
    shape: Mapping[str, tuple[int, int]]  # least and most, both included
    launch: Mapping[str, int] | None
    reason: str

    def covers(self, cards: tuple[str, ...], shape: Mapping[str, int]) -> bool:
        """Whether it speaks of a card, by one of its names, and of a shape."""
        bounds = ((self.shape[name], shape.get(name, -1)) for name in self.shape)
        return bool({*cards} & {*self.cards}) and all(a <= n <= b for (a, b), n in bounds)

    def to_json(self) -> dict[str, Any]:
        """As the table holds it; `parse` is the inverse."""
        return {
            "cards": list(self.cards),
            "shape": {name: list(bounds) for name, bounds in self.shape.items()},
            "launch": None if self.launch is None else dict(self.launch),
            "reason": self.reason,
        }


Table = dict[str, tuple[Row, ...]]
_replaced: list[Table] = []  # by `use_table`, the last one counts
_assumed: ContextVar[str | None] = ContextVar("assumed", default=None)


def parse(text: str) -> Table:
    """Read a table; raises ConfigError if it is not one."""
    try:
        return {
            op: tuple(
                Row(
                    tuple(row["cards"]),
                    {name: (int(a), int(b)) for name, (a, b) in row["shape"].items()},
                    row["launch"] and {name: int(n) for name, n in row["launch"].items()},
                    str(row["reason"]),
                )
                for row in rows
            )
            for op, rows in json.loads(text).items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"expected a dispatch table as `python -m wsicodec.ops.tune` writes it, got {error!r}"
        ) from error


@cache
def shipped() -> Table:
    """The table of this version."""
    return parse(files("wsicodec.ops").joinpath("dispatch.json").read_text("utf-8"))


def use_table(path: str | Path | None) -> None:
    """Take another table from now on, in this process; None goes back to the shipped one."""
    _replaced[:] = [] if path is None else [parse(Path(path).read_text("utf-8"))]


@contextmanager
def trial(table: Table) -> Iterator[None]:
    """Take a table for a while."""
    _replaced.append(table)
    try:
        yield
    finally:
        _replaced.pop()


def table() -> Table:
    """The table in use."""
    return _replaced[-1] if _replaced else shipped()


@contextmanager
def assumed(card: str) -> Iterator[None]:
    """Decide as on that card whatever the tensors' device: to count, build or interpret."""
    token = _assumed.set(card)
    try:
        yield
    finally:
        _assumed.reset(token)


def names_of(device: torch.device) -> tuple[str, ...]:
    """A card's name and compute capability."""
    major, minor = torch.cuda.get_device_capability(device)
    return torch.cuda.get_device_name(device), f"sm_{major}{minor}"


def row_of(op: str, cards: tuple[str, ...], shape: Mapping[str, int]) -> Row | None:
    """The first row of an op that covers a card and a shape."""
    return next((row for row in table().get(op, ()) if row.covers(cards, shape)), None)


def launch_of(op: str, x: Tensor, **shape: int) -> Mapping[str, int] | None:
    """How the kernel of an op starts for a tensor, or None where the reference runs."""
    card = _assumed.get()
    if x.dtype not in FLOATS or (card is None and not x.is_cuda):
        return None
    row = row_of(op, names_of(x.device) if card is None else (card,), shape)
    return None if row is None else row.launch


def wanted(*tensors: Tensor | None) -> bool:
    """Whether a registered op is called rather than its reference.

    On CUDA, and on "meta", where work is counted. Kernels have no backward pass, so whatever a
    gradient is asked of runs the reference, which autograd sees through.
    """
    given = [t for t in tensors if t is not None]
    if torch.is_grad_enabled() and any(t.requires_grad for t in given):
        return False
    return given[0].is_meta or (HAS_KERNELS and given[0].is_cuda)


def dense(x: Tensor) -> Tensor:
    """A map (n, c, h, w) laid out channels last, copied if it is not."""
    return x.contiguous(memory_format=torch.channels_last)
