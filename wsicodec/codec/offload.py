"""A thread pool of our own for the heavy half of a zarr codec.

zarr runs codecs on one loop in one thread: whatever computes there holds up every other read of
the process, and zarr's own executor may be full of reads that wait for this very codec.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Args = ParamSpec("Args")
Result = TypeVar("Result")

THREADS = 4

_pools: list[ThreadPoolExecutor] = []  # none or one; a forked child must not inherit its threads
os.register_at_fork(after_in_child=_pools.clear)


def _pool() -> ThreadPoolExecutor:
    if not _pools:
        threads = min(THREADS, os.cpu_count() or 1)
        _pools.append(ThreadPoolExecutor(threads, thread_name_prefix="wsicodec-codec"))
    return _pools[0]


async def offload(
    function: Callable[Args, Result], *args: Args.args, **kwargs: Args.kwargs
) -> Result:
    """Await `function(*args, **kwargs)`, computed outside the running loop."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_pool(), lambda: function(*args, **kwargs))
