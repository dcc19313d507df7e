"""What a process keeps between reads: thread pools, caches and loaded networks.

Everything hangs on one object, and a forked child starts with a fresh one: threads do not survive
a fork, and a lock may have been held at that moment.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from wsicodec.models.networks import cores

Value = TypeVar("Value")
Pixels = NDArray[np.uint8]

TILE_CACHE_BYTES = 256 << 20
CHUNK_CACHE_BYTES = 256 << 20
KEPT_CACHE_BYTES = 1 << 30  # of a card's memory
_REQUESTS = 32  # reads that may assemble or wait at one time; they do not compute


class ByteCache(Generic[Value]):
    """Least-recently-used values up to a number of bytes; safe between threads."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._items: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Value | None:
        """The value, now the most recently used, or None."""
        with self._lock:
            item = self._items.get(key)
            if item is None:
                return None
            self._items.move_to_end(key)
            return item[0]

    def put(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of `size` bytes, and let go of the oldest ones over the limit."""
        with self._lock:
            if key in self._items:
                self.used -= self._items.pop(key)[1]
            self._items[key] = (value, size)
            self.used += size
            while self.used > self.limit and len(self._items) > 1:
                self.used -= self._items.popitem(last=False)[1][1]


class TileBoard:
    """Drawn tiles, and who is drawing which: no tile is drawn twice at the same time."""

    def __init__(self, limit: int) -> None:
        self.cache: ByteCache[Pixels] = ByteCache(limit)
        self._drawing: dict[Hashable, Future[Pixels]] = {}
        self._lock = threading.Lock()

    def claim(self, key: Hashable) -> Pixels | Future[Pixels] | None:
        """The tile, the future of whoever draws it, or None: then the caller must draw it."""
        with self._lock:
            tile = self.cache.get(key)
            if tile is not None:
                return tile
            future = self._drawing.get(key)
            if future is None:
                self._drawing[key] = Future()
            return future

    def publish(self, key: Hashable, tile: Pixels) -> None:
        """Hand over a claimed tile to everybody who waits for it."""
        with self._lock:
            self.cache.put(key, tile, tile.nbytes)
            future = self._drawing.pop(key)
        future.set_result(tile)

    def give_up(self, key: Hashable, error: BaseException) -> None:
        """Tell everybody who waits for a claimed tile why it could not be drawn."""
        with self._lock:
            future = self._drawing.pop(key, None)
        if future is not None:
            future.set_exception(error)


class State:
    """One process's pools, caches and networks."""

    def __init__(self) -> None:
        self.workers = ThreadPoolExecutor(cores(), "wsicodec-draw")
        self.requests = ThreadPoolExecutor(_REQUESTS, "wsicodec-read")
        # Whose windows a card draws, in batches with others': they mostly wait.
        self.gathering = ThreadPoolExecutor(_REQUESTS, "wsicodec-ask")
        self.tiles = TileBoard(TILE_CACHE_BYTES)
        self.kept = TileBoard(KEPT_CACHE_BYTES)  # tiles that stayed on a card
        self.chunks: ByteCache[Any] = ByteCache(CHUNK_CACHE_BYTES)
        self.records: ByteCache[Any] = ByteCache(64 << 20)
        self.networks: dict[Hashable, Any] = {}
        self.networks_lock = threading.Lock()
        self.drawn: dict[int, int] = {}  # windows drawn per level, for whoever counts them

    def count(self, level: int, windows: int) -> None:
        """Note that windows of a level were drawn."""
        with self.networks_lock:
            self.drawn[level] = self.drawn.get(level, 0) + windows


_state: State | None = None
_state_lock = threading.Lock()


def state() -> State:
    """This process's state, made at first use."""
    global _state  # noqa: PLW0603, one per process by design
    with _state_lock:
        if _state is None:
            _state = State()
        return _state


def _forget() -> None:
    global _state, _state_lock
    _state, _state_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
