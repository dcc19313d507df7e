"""The fused ops that drawing with `small` calls on a card, recorded on shapes alone.

What is built ahead of time is then what the product starts: widths are those of the wheel's bundle,
the number of windows and the types are those of `codec.draw_device`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from wsicodec.codec.draw_device import Pipeline, inputs
from wsicodec.models.bundle import load_bundle
from wsicodec.models.torch_backend import CUDA_BATCH


class Call(NamedTuple):
    """One call of a fused op; its tensors have shapes and no values."""

    title: str  # calls of one title start the same kernels
    op: str
    arguments: tuple[Any, ...]


def _title(op: str, names: Sequence[str], arguments: tuple[Any, ...]) -> str:
    shapes = (" x ".join(map(str, a.shape)) for a in arguments if isinstance(a, Tensor))
    set_flags = (n for n, a in zip(names, arguments, strict=False) if a is True)
    return f"{op} of small, {', '.join((*dict.fromkeys(shapes), *set_flags))}"


class _Calls(TorchDispatchMode):
    """Keeps every call of a fused op while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Call] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func.namespace == "wsicodec":
            op = func._schema.name.split("::")[1].removeprefix("_")
            names = [a.name for a in func._schema.arguments]
            self.found.append(Call(_title(op, names, args), op, args))
        return func(*args, **(kwargs or {}))


@cache
def small_calls() -> tuple[Call, ...]:
    """Every call of one batch, in order."""
    bundle, where, kind = load_bundle(), torch.device("meta"), torch.bfloat16
    pipeline = Pipeline(bundle, bundle.steps, where, kind, CUDA_BATCH)
    given = [tensor.to(where) for tensor in inputs(bundle, kind, CUDA_BATCH)]
    with torch.inference_mode(), _Calls() as calls:
        pipeline(*given)
    return tuple(calls.found)
