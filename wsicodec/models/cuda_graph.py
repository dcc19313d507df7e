"""What only a card can run: functions of fixed shapes as CUDA graphs, pinned memory, streams.

Nothing is captured twice: whoever calls keeps one object for each shape.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsicodec.models.replay import Function

_WARM = 3  # calls before the capture: libraries allocate and choose, Triton compiles


def capture(
    run: Callable[[], Tensor], stream: torch.cuda.Stream
) -> tuple[Callable[[], None], Tensor]:
    """The launches of a function as one graph, and the memory that its answer lies in.

    Args:
        run: reads and writes the same memory at every call.
        stream: to warm up and to capture on; the graph may be replayed on any.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        stream.wait_stream(torch.cuda.current_stream(stream.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM):
                run()
        stream.synchronize()
        # Other threads may be using the card meanwhile, which the default mode forbids.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            made = run()
    return graph.replay, made


def replayed(run: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """The same function as one launch; its answers lie in the same memory."""
    replay, made = capture(run, torch.cuda.Stream(device))

    def again() -> Tensor:
        replay()
        return made

    return again


class Captured:
    """See `replay.Replay`.

    Copies and launches of one object follow each other on its stream; another's overlap with them.
    """

    def __init__(self, function: Function, inputs: Sequence[Tensor], device: torch.device) -> None:
        """Capture a function of tensors like `inputs`, which are in host memory."""
        self.inputs: Sequence[Tensor] = [tensor.pin_memory() for tensor in inputs]
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._done = torch.cuda.Event()
        self._given = [tensor.to(device) for tensor in self.inputs]
        self._replay, self._made = capture(lambda: function(*self._given), self._stream)
        self._host = torch.empty(self._made.shape, dtype=self._made.dtype).pin_memory()

    def start(self, *, download: bool = True) -> None:
        """See `Replay`."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for given, tensor in zip(self._given, self.inputs, strict=True):
                given.copy_(tensor, non_blocking=True)
            self._replay()
            if download:
                self._host.copy_(self._made, non_blocking=True)
            self._done.record(self._stream)

    def wait(self) -> None:
        """See `Replay`."""
        self._done.synchronize()

    def answer(self) -> Tensor:
        """See `Replay`."""
        return self._host

    def kept(self, count: int) -> list[Tensor]:
        """See `Replay`."""
        copies = [row.clone() for row in self._made[:count]]
        torch.cuda.current_stream(self._device).synchronize()
        return copies
