"""How kernels start, and what they share: one door that a counter or a builder may stand at.

Whoever counts launches or builds kernels ahead of time opens `recorded()`; launchers then only
say what they would have started, so tensors may be on any device, "meta" included.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import triton
import triton.language as tl


@dataclass(frozen=True)
class Launch:
    """One start of one kernel."""

    kernel: Any  # the jitted function
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]  # tensors and numbers, in the kernel's order
    constants: Mapping[str, Any]  # compiled in
    options: Mapping[str, int]  # num_warps, num_stages


_records: ContextVar[list[Launch] | None] = ContextVar("records", default=None)


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Collect launches instead of making them."""
    found: list[Launch] = []
    token = _records.set(found)
    try:
        yield found
    finally:
        _records.reset(token)


def start(
    kernel: Any, grid: tuple[int, ...], *arguments: Any, how: Mapping[str, int], **constants: Any
) -> None:
    """Start a kernel.

    Args:
        kernel: jitted.
        grid: programs along each axis.
        arguments: tensors and numbers.
        how: "warps" and "stages" of the dispatch table's row.
        constants: compiled in.
    """
    options = {"num_warps": how["warps"], "num_stages": how["stages"]}
    records = _records.get()
    if records is None:
        kernel[grid](*arguments, **constants, **options)
    else:
        records.append(Launch(kernel, grid, arguments, constants, options))


def blocks(count: int, block: int) -> int:
    """How many blocks cover a count."""
    return -(-count // block)


def power_of_two(count: int) -> int:
    """The smallest power of two that is not below a count."""
    return 1 << max(0, count - 1).bit_length()


@triton.jit
def _probe() -> None:
    pass


# Triton's interpreter holds bfloat16 as its bits and multiplies those; widening first is exact and
# is what a tensor core does.
_WIDEN = tl.constexpr(not isinstance(_probe, triton.JITFunction))


@triton.jit
def dot(a: tl.tensor, b: tl.tensor, total: tl.tensor) -> Any:
    """The matrix product plus `total`, in float32; never in TF32."""
    if _WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee")
