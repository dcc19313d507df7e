"""Work over processes, each item in one of them."""

from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

from wsicodec.errors import WsiCodecError

Item = TypeVar("Item", bound=Hashable)
Found = TypeVar("Found")


def _alone(_: object) -> None:
    """Nothing."""


def spread(
    do: Callable[[Item], Found],
    todo: Sequence[Item],
    workers: int,
    needs: Callable[[Item], Item | None] = _alone,
) -> Generator[tuple[Item, Found | WsiCodecError], None, None]:
    """Do items side by side, and hand each back with what it gave as soon as it is done.

    One worker is this process. Others are started anew, so `do` and items must be picklable. What
    is not begun when the caller stops asking is not done.

    Args:
        do: the work; a WsiCodecError of it is handed back in place of a result.
        todo: different items, in the order in which they begin.
        workers: processes.
        needs: another item that must be done before one begins, if it is to be done at all; it
            stands further ahead in `todo`.
    """
    if workers == 1:
        for item in todo:
            yield item, _tried(partial(do, item))
        return
    held, running = list(todo), dict[Future[Found], Item]()
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        while held or running:
            unfinished = {*held, *running.values()}
            for item in [i for i in held if needs(i) not in unfinished]:
                held.remove(item)
                running[pool.submit(do, item)] = item
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), _tried(future.result)
    finally:
        pool.shutdown(cancel_futures=True)


def _tried(work: Callable[[], Found]) -> Found | WsiCodecError:
    try:
        return work()
    except WsiCodecError as error:
        return error
