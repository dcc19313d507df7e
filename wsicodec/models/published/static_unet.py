"""The folded U-Net for many steps at few shapes: memory that stays, times that are told once.

On a card every shape is a CUDA graph; elsewhere the same memory is used without one. Several
drawings may take turns, each with its own contexts, on one thread or on several.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from wsicodec.models.published.fused import lowered
from wsicodec.models.published.fused_unet import FusedUNet, Told


def _tensors(told: Told) -> Iterator[Tensor]:
    for one in told.conditions:
        yield from (one.scores_of, one.sums, one.offsets, one.answers, one.bias)


def _shape(x: Tensor, told: Told) -> tuple[Hashable, ...]:
    return (x.shape, *(tensor.shape for tensor in _tensors(told)))


class _Place:
    """Memory of one shape."""

    def __init__(self, network: FusedUNet, x: Tensor, times: Tensor, told: Told) -> None:
        self.told = told  # what the last turn was about; the first one's memory is kept
        self._memory, self._x, self._times = told, x.clone(), times.clone()
        run: Callable[[], Tensor] = lambda: network(self._x, self._times, self._memory)  # noqa: E731
        if x.is_cuda:
            from wsicodec.models.cuda_graph import replayed

            run = replayed(run, x.device)
        self._run = run

    def __call__(self, x: Tensor, times: Tensor, told: Told) -> Tensor:
        if told is not self.told:
            for kept, tensor in zip(_tensors(self._memory), _tensors(told), strict=True):
                kept.copy_(tensor)
            self.told = told
        self._x.copy_(x)
        self._times.copy_(times)
        # A copy in any case: the memory is the next turn's.
        return self._run().to(torch.float32, copy=True)


class StaticUNet:
    """A folded U-Net in a narrow type, for latents in float32."""

    def __init__(self, network: FusedUNet, kind: torch.dtype) -> None:
        """Copy a network in a type.

        Args:
            network: in float32.
            kind: of the copy.
        """
        self._network, self._wide, self._kind = lowered(network, kind), network, kind
        self._places: dict[Hashable, _Place] = {}
        self._times: dict[tuple[int, int | None], Tensor] = {}
        self._lock = threading.Lock()

    def condition(self, contexts: Tensor) -> Told:
        """Fold contexts (k, tokens, width) for all steps of a drawing."""
        return self._network.condition(contexts.to(self._kind))

    def times(self, t: int, magnification: int | None) -> Tensor:
        """The row (1, ...) that a trained step tells all blocks, computed once."""
        key = (t, magnification)
        if key not in self._times:
            where = self._wide.to_times.device
            index = None if magnification is None else torch.tensor([magnification], device=where)
            row = self._wide.times(torch.tensor([t], device=where), index)
            self._times[key] = row.to(self._kind)
        return self._times[key]

    def __call__(self, x: Tensor, t: int, magnification: int | None, told: Told) -> Tensor:
        """The noise (n, c, h, w) in latents at a trained step, of items told as in `FusedUNet`."""
        with self._lock, torch.inference_mode():
            times = self.times(t, magnification).expand(len(x), -1)
            narrow = x.to(self._kind).contiguous(memory_format=torch.channels_last)
            key = _shape(x, told)
            if key not in self._places:
                self._places[key] = _Place(self._network, narrow, times, _copied(told))
            return self._places[key](narrow, times, told)


def _copied(told: Told) -> Told:
    """The same contexts in other memory."""
    names = ("scores_of", "sums", "offsets", "answers", "bias")
    return Told(
        tuple(
            replace(one, **{n: getattr(one, n).clone() for n in names}) for one in told.conditions
        )
    )
