"""Windows of many readers in common batches, with an engine that only counts."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from wsicodec.codec.draw import Pixels, Window
from wsicodec.codec.gather import Gatherer, Order


def window(number: int) -> Window:
    return Window(0, number, 0, 0, None, np.zeros((1, 1, 1), np.float32))


class Counter:
    """Answers a window with its row; a batch waits until it may go on."""

    batch = 4

    def __init__(self, places: int = 2) -> None:
        self.places = places
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []
        self.under_way: dict[int, list[int]] = {}
        self.most = 0

    def start(self, place: int, orders: Sequence[Order], *, download: bool) -> None:
        rows = [at.ty for _, at in orders]
        assert place not in self.under_way, "a place was filled while a batch was drawn there"
        if -1 in rows:
            raise ValueError("a window that nobody can draw")
        self.begun.set()
        assert self.go.wait(60)
        self.under_way[place] = rows
        self.most = max(self.most, len(self.under_way))
        self.batches.append(rows)

    def finish(self, place: int, count: int) -> list[Pixels]:
        return list(np.array(self.under_way.pop(place)[:count], np.uint8))

    def keep(self, place: int, count: int) -> list[Any]:
        return [f"on the device: {row}" for row in self.under_way.pop(place)[:count]]

    def empty(self, shape: tuple[int, int]) -> Any:
        raise NotImplementedError

    def put(self, pixels: Pixels) -> Any:
        raise NotImplementedError

    def settle(self) -> None:
        raise NotImplementedError


def test_readers_share_batches_and_get_their_own_tiles() -> None:
    engine = Counter()
    gatherer = Gatherer(engine)
    engine.go.clear()
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(gatherer.draw, "s", [window(100)])
        assert engine.begun.wait(20)  # the lone window is being drawn: it waits for no company
        rest = [pool.submit(gatherer.draw, "s", [window(i)]) for i in range(11)]
        while len(gatherer._waiting) < 11:
            time.sleep(1e-3)
        engine.go.set()
        assert first.result() == [100]
        assert [job.result() for job in rest] == [[i] for i in range(11)]
    assert [len(rows) for rows in engine.batches] == [1, 4, 4, 3]
    assert engine.most == 2, "the next batch is sent before the one under way is fetched"


def test_a_read_larger_than_a_batch_comes_back_in_order() -> None:
    gatherer = Gatherer(Counter(places=1))
    assert gatherer.draw("s", [window(i) for i in range(10)]) == list(range(10))


def test_tiles_for_the_device_and_for_the_host_are_never_in_one_batch() -> None:
    engine = Counter()
    gatherer = Gatherer(engine)
    engine.go.clear()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(gatherer.draw, "s", [window(i)], keep=i % 2 == 1) for i in range(3)]
        engine.go.set()
        found = [job.result() for job in jobs]
    assert found == [[0], ["on the device: 1"], [2]]


def test_a_window_that_fails_fails_only_itself() -> None:
    engine = Counter(places=1)
    gatherer = Gatherer(engine)
    engine.go.clear()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(gatherer.draw, "s", [window(i)]) for i in (5, -1, 6)]
        engine.go.set()
        assert jobs[0].result() == [5]
        assert jobs[2].result() == [6]
        with pytest.raises(ValueError, match="nobody can draw"):
            jobs[1].result()
    assert gatherer.draw("s", [window(7)]) == [7]
