"""Running one function of fixed shapes many times: inputs and outputs keep their memory.

`Direct` calls it; `wsicodec.models.cuda_graph.Captured` replays it on a card. Both hold host
memory that the caller fills before `start` and reads after `wait`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

Function = Callable[..., Tensor]


class Replay(Protocol):
    """One place where a batch is drawn; not to be filled between `start` and `wait`."""

    @property
    def inputs(self) -> Sequence[Tensor]:
        """In host memory, to be filled."""

    def start(self, *, download: bool = True) -> None:
        """Begin with what the inputs hold; `download` asks for the answer in host memory."""

    def wait(self) -> None:
        """Return when what was started is done."""

    def answer(self) -> Tensor:
        """The answer in host memory, if it was downloaded; valid until the next start."""

    def kept(self, count: int) -> list[Tensor]:
        """Copies of the answer's first rows on the device."""


class Direct:
    """A call, where the caller waits for it."""

    def __init__(self, function: Function, inputs: Sequence[Tensor]) -> None:
        self.inputs: Sequence[Tensor] = inputs
        self._function = function
        self._answer: Tensor | None = None

    @torch.inference_mode()
    def start(self, *, download: bool = True) -> None:  # noqa: ARG002, host memory is the device's
        """See `Replay`."""
        self._answer = self._function(*self.inputs)

    def wait(self) -> None:
        """See `Replay`."""

    def answer(self) -> Tensor:
        """See `Replay`."""
        assert self._answer is not None
        return self._answer

    def kept(self, count: int) -> list[Tensor]:
        """See `Replay`."""
        return [row.clone() for row in self.answer()[:count]]
