"""One block of a slide, from bands of pixels to the objects that stand for it in the store.

A block is 32 x 32 patches: one chunk of embeddings, and the real pictures under it. Nothing that
comes out depends on what was done before, so a run that resumes writes the same bytes.
"""

import io
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.embed_zarr import Embed
from wsicodec.coding.images import LOSSLESS, ImageFormat, encode_image
from wsicodec.errors import BundleError
from wsicodec.geometry import Region
from wsicodec.slide.scaled import Slide
from wsicodec.store.bands import Band
from wsicodec.store.job import Job, Objects
from wsicodec.store.metadata import GRID_CHUNK
from wsicodec.store.plan import BLOCK, Picture
from wsicodec.store.pool import BoundedPool
from wsicodec.store.work import Work

Cell = tuple[int, int]  # a block's row and column
EmbedCells = Callable[[list[tuple[int, int]], NDArray[np.uint8]], NDArray[np.float32]]
BATCH = 64  # patches at a time; grouped anew in every block, as a sum may depend on the batch


class GridChunk:
    """Collects a block's patches, embeds them in fixed groups, and writes their chunk."""

    def __init__(self, by: int, bx: int, embed: EmbedCells, width: int, pool: BoundedPool) -> None:
        self._path = f"embeddings/c/{by}/{bx}/0"
        self._origin = by * GRID_CHUNK, bx * GRID_CHUNK
        self._embed, self._width, self._pool = embed, width, pool
        self._cells: list[tuple[int, int]] = []
        self._patches: list[NDArray[np.uint8]] = []
        self._groups: list[tuple[list[tuple[int, int]], Future[NDArray[np.float32]]]] = []

    def add(self, band: Band) -> None:
        """Take a band's patches."""
        self._cells += band.cells
        self._patches += list(band.patches)
        while len(self._cells) >= BATCH:
            self._flush()

    def _flush(self) -> None:
        cells, self._cells = self._cells[:BATCH], self._cells[BATCH:]
        patches, self._patches = self._patches[:BATCH], self._patches[BATCH:]
        self._groups.append((cells, self._pool.submit(self._embed, cells, np.stack(patches))))

    def finish(self) -> None:
        """Hand over what is left; no band comes after it."""
        while self._cells:
            self._flush()

    def write(self, job: Job, codec: Embed) -> Objects:
        """Wait for all groups and write the chunk; a block without tissue has none."""
        if not self._groups:
            return {}
        grid = np.zeros((GRID_CHUNK, GRID_CHUNK, self._width), np.float32)
        for cells, future in self._groups:
            vectors = np.asarray(future.result(), np.float32)
            if vectors.shape != (len(cells), self._width) or not np.isfinite(vectors).all():
                raise BundleError(
                    f"expected {len(cells)} finite embeddings of {self._width} values, got an "
                    f"array of shape {vectors.shape}; the bundle's embedder is damaged"
                )
            rows, columns = (np.array(cells) - self._origin).T
            grid[rows, columns] = vectors
        return job.write(self._path, codec.encode_grid(grid))


class PictureBlock:
    """Collects one picture's rows of a block and codes every chunk as soon as it is full."""

    def __init__(self, picture: Picture, block: Region, job: Job, pool: BoundedPool) -> None:
        self._picture, self._job, self._pool = picture, job, pool
        self._block = block
        place = block.scale_down(1 << picture.level)
        self._y, self._x0 = place.y0, place.x0
        self._rows: list[NDArray[np.uint8]] = []
        self._held = 0
        self._done: list[Future[Objects]] = []

    @property
    def level(self) -> int:
        """The picture's level."""
        return self._picture.level

    def add(self, strip: NDArray[np.uint8]) -> None:
        """Take the next rows (h, w, 3), in pixels of the picture's level."""
        self._rows.append(strip)
        self._held += strip.shape[0]
        if not self._picture.spans_blocks and self._held >= self._picture.chunk[0]:
            self._flush()

    def _flush(self) -> None:
        rows, self._rows = np.concatenate(self._rows), []
        height, width = self._picture.chunk
        for y, x in product(range(0, rows.shape[0], height), range(0, rows.shape[1], width)):
            path = self._picture.chunk_path((self._y + y) // height, (self._x0 + x) // width)
            chunk = rows[y : y + height, x : x + width]
            self._done.append(
                self._pool.submit(write_picture, self._job, path, chunk, self._picture.form)
            )
        self._y += self._held
        self._held = 0

    def finish(self) -> None:
        """Code what is left; of pictures that span blocks, put the raw pixels aside."""
        if self._picture.spans_blocks:
            raw = np.concatenate(self._rows)
            by, bx = self._block.y0 // BLOCK, self._block.x0 // BLOCK
            path = part_path(self._picture, by, bx)
            self._done.append(self._pool.submit(self._job.write, path, array_bytes(raw)))
        elif self._rows:
            self._flush()

    def objects(self) -> Objects:
        """Wait for all that was handed over."""
        return {path: entry for f in self._done for path, entry in f.result().items()}


@dataclass(frozen=True, slots=True)
class Block:
    """All that is under way of one block."""

    cell: Cell
    region: Region  # level-0 pixels
    grid: GridChunk
    pictures: list[PictureBlock]

    def add(self, band: Band) -> None:
        """Take the next band."""
        self.grid.add(band)
        for picture in self.pictures:
            picture.add(band.strips[picture.level])

    def finish(self) -> None:
        """Hand over what is left; no band comes after it."""
        self.grid.finish()
        for picture in self.pictures:
            picture.finish()

    def objects(self, job: Job, work: Work) -> Objects:
        """Wait for every piece; all objects of the block, written."""
        objects = self.grid.write(job, work.codec)
        for picture in self.pictures:
            objects |= picture.objects()
        if work.roi:
            objects |= write_roi(job, work.slide, self.region, work.roi, work.roi_chunk)
        return objects


def write_roi(
    job: Job, slide: Slide, block: Region, regions: tuple[Region, ...], chunk: tuple[int, int]
) -> Objects:
    """Write the chunks of `roi/` in a block: kept pixels as they are, black around them."""
    objects: Objects = {}
    height, width = chunk
    for i in range(block.y0 // height, -(-block.y1 // height)):
        for j in range(block.x0 // width, -(-block.x1 // width)):
            place = Region(i * height, j * width, (i + 1) * height, (j + 1) * width)
            parts = [part for r in regions if not (part := place.intersect(r)).empty]
            if not parts:
                continue
            rgb = np.zeros((height, width, 3), np.uint8)
            for part in parts:
                rgb[part.slices((place.y0, place.x0))] = slide.read(part)
            objects |= write_picture(job, f"roi/c/{i}/{j}/0", rgb, LOSSLESS)
    return objects


def assemble(job: Job, picture: Picture) -> Objects:
    """Write the chunks of a picture whose chunks span blocks, out of the pixels put aside."""
    objects: Objects = {}
    (rows, columns), (height, width), side = picture.shape, picture.chunk, BLOCK >> picture.level
    for y in range(0, rows, height):
        for x in range(0, columns, width):
            place = Region(y, x, y + height, x + width).clip(picture.shape)
            rgb = np.empty((*place.shape, 3), np.uint8)
            for by, bx in place.scale_down(side).cells():
                raw = read_array(job.read(part_path(picture, by, bx)))
                at = by * side - y, bx * side - x
                rgb[at[0] : at[0] + raw.shape[0], at[1] : at[1] + raw.shape[1]] = raw
            path = picture.chunk_path(y // height, x // width)
            objects |= write_picture(job, path, rgb, picture.form)
    return objects


def write_picture(job: Job, path: str, rgb: NDArray[np.uint8], form: ImageFormat) -> Objects:
    """Code one chunk of a picture and write it."""
    return job.write(path, encode_image(rgb, form))


def part_path(picture: Picture, by: int, bx: int) -> str:
    """Where a block's raw pixels of a picture wait to be assembled."""
    return f"parts/{picture.path}/{by}.{bx}.npy"


def array_bytes(array: NDArray[np.uint8]) -> bytes:
    """An array as a NumPy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def read_array(data: bytes) -> NDArray[np.uint8]:
    """The array of a NumPy file; `array_bytes` is its inverse."""
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False), np.uint8)
