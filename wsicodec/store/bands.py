"""Reading a slide in bands of one row of patches, ahead of whoever uses them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from wsicodec.geometry import PATCH, Region
from wsicodec.resample import box_reduce
from wsicodec.slide.scaled import Slide
from wsicodec.store.plan import BLOCK

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Band:
    """One row of patches of one block, as far as the store needs it."""

    cells: list[tuple[int, int]]  # grid cells with tissue, left to right
    patches: NDArray[np.uint8]  # (n, PATCH, PATCH, 3), theirs
    strips: dict[int, NDArray[np.uint8]]  # level -> its rows (h, w, 3) of the block


@dataclass(frozen=True, slots=True)
class BandReader:
    """Reads bands of a slide.

    embedded: (gy, gx), the patches that are embedded.
    levels: those of which real pixels are wanted; none means that glass is never read.
    """

    slide: Slide
    embedded: NDArray[np.bool_]
    levels: Sequence[int]

    def block(self, by: int, bx: int) -> Region:
        """The pixels of level 0 in a block."""
        whole = Region(by, bx, by + 1, bx + 1).scale_up(BLOCK)
        return whole.clip(self.slide.shape)

    def rows(self, by: int, bx: int) -> list[tuple[Region, int]]:
        """A block's bands: its pixels and the row of patches."""
        block = self.block(by, bx)
        return [(block, row) for row in range(block.y0 // PATCH, -(-block.y1 // PATCH))]

    def read(self, block: Region, row: int) -> Band:
        """Read one row of patches of a block."""
        first, last = block.x0 // PATCH, -(-block.x1 // PATCH)
        columns = [x for x in range(first, last) if self.embedded[row, x]]
        if self.levels:
            region = Region(row * PATCH, block.x0, (row + 1) * PATCH, block.x1)
        elif columns:
            region = Region(row, columns[0], row + 1, columns[-1] + 1).scale_up(PATCH)
        else:
            return Band([], np.empty((0, PATCH, PATCH, 3), np.uint8), {})
        region = region.clip(self.slide.shape)
        rgb = self.slide.read(region)
        patches = np.full((len(columns), PATCH, PATCH, 3), 255, np.uint8)
        for patch, x in zip(patches, columns, strict=True):
            part = rgb[:, x * PATCH - region.x0 : (x + 1) * PATCH - region.x0]
            patch[: part.shape[0], : part.shape[1]] = part
        strips = {level: box_reduce(rgb, 1 << level) for level in self.levels}
        return Band([(row, x) for x in columns], patches, strips)


def ahead(
    pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Iterator[tuple[Item, Result]]:
    """Do `work` on each item in the pool, at most `depth` results ahead, in order."""
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > depth:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
