"""A pool of threads whose queue is short: whoever hands over work waits instead of piling it up."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Semaphore
from types import TracebackType
from typing import Self, TypeVar

Result = TypeVar("Result")


class BoundedPool:
    """Threads that work through at most `most` tasks at a time, running and waiting together."""

    def __init__(self, workers: int, most: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, name)
        self._free = Semaphore(most)

    def submit(self, work: Callable[..., Result], *args: object) -> Future[Result]:
        """Hand over `work(*args)`; blocks while the queue is full."""
        self._free.acquire()
        future = self._pool.submit(work, *args)
        future.add_done_callback(lambda _: self._free.release())
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let what runs end; after an error, forget what waits."""
        self._pool.shutdown(cancel_futures=error is not None)
