"""The long part of an encoding: every block of the slide, resuming where a run was cut off."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from wsicodec.geometry import PATCH, Region
from wsicodec.store.bands import Band, BandReader, ahead
from wsicodec.store.blocks import Block, Cell, GridChunk, PictureBlock, assemble
from wsicodec.store.job import Job, Objects
from wsicodec.store.passthrough import copy_row
from wsicodec.store.plan import BLOCK
from wsicodec.store.pool import BoundedPool
from wsicodec.store.work import Work

Progress = Callable[[int, int, str], None]  # pieces done, pieces in all, what a piece is called
READERS = 2  # threads; decoding a source leaves the interpreter to others
READ_AHEAD = 4  # bands of at most 256 x 8192 pixels
EMBEDDERS, EMBED_AHEAD = 2, 4  # groups of patches under way, and at most held
WRITERS, WRITE_AHEAD = 2, 8  # pictures being coded, and at most held
CLOSE_AHEAD = 2  # blocks whose last objects are awaited while the next ones are read
UNIT = "patches"

Place = tuple[Cell, Region, int]  # a block, its pixels, and one of its rows of patches


@dataclass(slots=True)
class _Count:
    progress: Progress | None
    total: int
    done: int = 0

    def add(self, patches: int) -> None:
        self.done += patches
        if self.progress is not None:
            self.progress(self.done, self.total, UNIT)


def run_blocks(job: Job, work: Work, progress: Progress | None) -> Objects:
    """Write every payload object of a store that is not there yet; returns all of them."""
    units = job.finished()
    count = _Count(progress, work.classes.size)
    reader = BandReader(work.slide, work.embedded, [p.level for p in work.drawn])
    blocks = list(Region(0, 0, *work.slide.shape).scale_down(BLOCK).cells())
    with ExitStack() as held:
        readers = held.enter_context(ThreadPoolExecutor(READERS, "wsicodec-read-slide"))
        writers = held.enter_context(BoundedPool(WRITERS, WRITE_AHEAD, "wsicodec-write"))
        embedders = held.enter_context(BoundedPool(EMBEDDERS, EMBED_AHEAD, "wsicodec-group"))
        closer = held.enter_context(ThreadPoolExecutor(1, "wsicodec-close"))
        count.add(sum(_patches(reader, b) for b in blocks if _unit(b) in units))
        places = (
            (cell, *row)
            for cell in blocks
            if _unit(cell) not in units
            for row in reader.rows(*cell)
        )
        bands = ahead(readers, lambda place: reader.read(*place[1:]), places, READ_AHEAD)
        full = _collect(job, work, bands, count, embedders, writers)
        for block, objects in ahead(closer, lambda b: b.objects(job, work), full, CLOSE_AHEAD):
            job.finish_unit(_unit(block.cell), objects)
            units[_unit(block.cell)] = objects
        for unit, objects in _copy(job, work, units):
            units[unit] = objects
    objects = {path: entry for unit in units.values() for path, entry in unit.items()}
    for picture in work.drawn:
        if picture.spans_blocks:
            objects |= assemble(job, picture)
    return {path: entry for path, entry in objects.items() if not path.startswith("parts/")}


def _collect(
    job: Job,
    work: Work,
    bands: Iterator[tuple[Place, Band]],
    count: _Count,
    embedders: BoundedPool,
    writers: BoundedPool,
) -> Iterator[Block]:
    """Turn bands, which come block by block, into blocks whose last pieces are under way."""
    current: Block | None = None
    for (cell, place, row), band in bands:
        if current is None:
            grid = GridChunk(*cell, work.vectors, work.bundle.embedding_width, embedders)
            pictures = [PictureBlock(p, place, job, writers) for p in work.drawn]
            current = Block(cell, place, grid, pictures)
        current.add(band)
        count.add(place.scale_down(PATCH).shape[1])
        if (row + 1) * PATCH >= place.y1:
            current.finish()
            yield current
            current = None


def _copy(job: Job, work: Work, units: dict[str, Objects]) -> Iterator[tuple[str, Objects]]:
    """Copy the source's tiles, a row of chunks at a time, where level 0 is passed through."""
    for picture in work.pictures:
        if not picture.copied or work.tiles is None:
            continue
        for i in range(-(-picture.shape[0] // picture.chunk[0])):
            unit = f"{picture.path} {i}"
            if unit not in units:
                objects = copy_row(job, work.tiles, picture, i)
                job.finish_unit(unit, objects)
                yield unit, objects


def _unit(cell: Cell) -> str:
    return f"block {cell[0]} {cell[1]}"


def _patches(reader: BandReader, cell: Cell) -> int:
    height, width = reader.block(*cell).scale_down(PATCH).shape
    return height * width
