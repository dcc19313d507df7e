"""Windows of many reads drawn in common batches.

Readers hand in windows and wait. One thread takes what waits, a batch at a time: while a batch is
drawn others gather, so that batches fill up exactly when there is much to do, and a lone window
never waits for company.
"""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsicodec.codec.draw import Pixels, Window

Order = tuple[str, Window]  # a slide's digest and a window of it


class Engine(Protocol):
    """Draws batches in a few places; a place is free again once it was finished or kept."""

    batch: int

    @property
    def places(self) -> int:
        """Batches that may be under way."""

    def start(self, place: int, orders: Sequence[Order], *, download: bool) -> None:
        """Begin to draw up to `batch` windows; `download` says that `finish` will be asked."""

    def finish(self, place: int, count: int) -> list[Pixels]:
        """The first `count` tiles, in host memory and in memory of their own."""

    def keep(self, place: int, count: int) -> list[Any]:
        """The same on the device."""

    def empty(self, shape: tuple[int, int]) -> Any:
        """An RGB picture (h, w, 3) of bytes on the device, not filled."""

    def put(self, pixels: Pixels) -> Any:
        """A picture of bytes on the device."""

    def settle(self) -> None:
        """Return when all that was asked of the device outside of places is done."""


@dataclass(slots=True)
class _Item:
    order: Order
    keep: bool  # the tile on the device, rather than in host memory
    tile: Future[Any] = field(default_factory=Future)


class Gatherer:
    """Draws windows for any number of threads through one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def draw(self, slide: str, windows: Sequence[Window], *, keep: bool = False) -> list[Any]:
        """The tiles of windows of a slide; returns when all are drawn.

        Args:
            slide: the digest that keys the noise.
            windows: any number.
            keep: True for tiles on the engine's device, False for arrays in host memory.
        """
        items = [_Item((slide, window), keep) for window in windows]
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._serve, name="wsicodec-gather", daemon=True
                )
                self._thread.start()
            self._waiting.extend(items)
            self._changed.notify()
        return [item.tile.result() for item in items]

    def _serve(self) -> None:
        under_way: deque[tuple[int, list[_Item]]] = deque()
        place = 0
        while True:
            items = self._take(wait=not under_way)
            if items:
                if len(under_way) == self.engine.places:
                    self._hand_out(*under_way.popleft())
                if self._begin(place, items):
                    under_way.append((place, items))
                    place = (place + 1) % self.engine.places
            elif under_way:
                self._hand_out(*under_way.popleft())

    def _take(self, *, wait: bool) -> list[_Item]:
        """Up to a batch of what waits; all want their tiles in the same memory."""
        with self._changed:
            while wait and not self._waiting:
                self._changed.wait()
            items: list[_Item] = []
            while self._waiting and len(items) < self.engine.batch:
                if items and self._waiting[0].keep != items[0].keep:
                    break
                items.append(self._waiting.popleft())
            return items

    def _begin(self, place: int, items: list[_Item]) -> bool:
        try:
            orders = [item.order for item in items]
            self.engine.start(place, orders, download=not items[0].keep)
        except BaseException as error:  # noqa: BLE001, whoever waits is told
            self._fail(place, items, error)
            return False
        return True

    def _hand_out(self, place: int, items: list[_Item]) -> None:
        try:
            fetch = self.engine.keep if items[0].keep else self.engine.finish
            tiles = fetch(place, len(items))
        except BaseException as error:  # noqa: BLE001, whoever waits is told
            self._fail(place, items, error)
            return
        for item, tile in zip(items, tiles, strict=True):
            item.tile.set_result(tile)

    def _fail(self, place: int, items: list[_Item], error: BaseException) -> None:
        """Tell whoever waits; of several windows, each is tried alone first."""
        if len(items) == 1:
            items[0].tile.set_exception(error)
            return
        for item in items:
            if self._begin(place, [item]):
                self._hand_out(place, [item])
