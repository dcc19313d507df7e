"""Reading a region of a slide: await the bytes, then compute on threads of our own.

Nothing here blocks zarr's event loop, and nothing calls zarr's synchronous interface from it:
the first would stall every other read of the process, the second hangs. What a slide stores is
decoded in host memory, whatever memory the caller wants pixels in.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer.cpu import buffer_prototype
from zarr.storage import StorePath

from wsicodec.codec.compute import compute, tile_key, view_of
from wsicodec.codec.load import load_record
from wsicodec.codec.plan import Plan, plan_region
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.codec.region import Fetched
from wsicodec.codec.region_device import run_kept
from wsicodec.codec.state import State, state
from wsicodec.codec.tables import embedding_tables
from wsicodec.coding.bitstream import decode_grid
from wsicodec.config import DrawOptions
from wsicodec.errors import BitstreamError, StoreError
from wsicodec.geometry import Region
from wsicodec.models.bundle import find_bundle

Result = TypeVar("Result")
_FETCHES = 16  # chunks of one read under way at a time


async def read_region(
    root: StorePath,
    slide: str,
    level: int,
    region: Region,
    options: DrawOptions,
    *,
    keep: bool = False,
) -> Any:
    """The pixels of a region of a level, drawn where they are not stored.

    Args:
        root: the slide's root group.
        slide: digest of the slide that must stand there.
        level: of the store.
        region: in pixels of the level, inside it.
        options: how to draw.
        keep: leave what a device draws there.

    Returns:
        (h, w, 3) RGB: an array, or with `keep` a tensor on the device that drew it.
    """
    here = state()
    record = await _record(here, root, slide)
    key = tile_key(record, options)
    # The first time a bundle is looked for on disk, which the event loop must not wait for.
    view = await _on_threads(here, lambda: view_of(find_bundle(record.info.fingerprint)))
    plan = plan_region(
        record,
        level,
        region,
        lambda tile: here.tiles.cache.get(key(tile)),
        options.allow_generated,
        view.halo,
    )
    fetched = await _fetch(here, root, record, plan)

    def shown() -> Any:
        job = compute(record, plan, fetched, options)
        return run_kept(job, level, region) if keep else job.run(level, region)

    return await _on_threads(here, shown)


async def _record(here: State, root: StorePath, slide: str) -> SlideRecord:
    record: SlideRecord | None = here.records.get(slide)
    if record is None:
        record = await load_record(root, slide)
        here.records.put(slide, record, record.tissue.nbytes + 4096)
    return record


async def _fetch(here: State, root: StorePath, record: SlideRecord, plan: Plan) -> Fetched:
    """Bring all the chunks that a plan asks for, decoded; what is cached is not read again."""
    fetched = Fetched()
    gate = asyncio.Semaphore(_FETCHES)
    tables_for = record.info.fingerprint

    async def bring(
        into: dict[Any, NDArray[Any]], at: Any, path: str, decode: Callable[[bytes], NDArray[Any]]
    ) -> None:
        async with gate:
            into[at] = await _chunk(here, root, record.info.slide, path, decode)

    def embedding(data: bytes) -> NDArray[Any]:
        return decode_grid(data, embedding_tables(tables_for), record.embedding_chunk)[0]

    jobs = [
        bring(fetched.embeddings, (i, j), f"embeddings/c/{i}/{j}/0", embedding)
        for i, j in plan.embeddings
    ]
    for k, i, j in plan.pictures:
        array = record.pictures[k]
        jobs.append(bring(fetched.pictures, (k, i, j), _path(array, i, j), array.decode))
    if record.roi is not None:
        roi = record.roi
        jobs += [bring(fetched.roi, (i, j), _path(roi, i, j), roi.decode) for i, j in plan.roi]
    await _all(jobs)
    return fetched


def _path(array: ImageArray, i: int, j: int) -> str:
    return f"{array.path}/c/{i}/{j}/0"


async def _all(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Await all of them; the first error ends the others and reaches the reader as it is."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _chunk(
    here: State,
    root: StorePath,
    slide: str,
    path: str,
    decode: Callable[[bytes], NDArray[Any]],
) -> NDArray[Any]:
    cached: NDArray[Any] | None = here.chunks.get((slide, path))
    if cached is not None:
        return cached
    data = await (root / path).get(prototype=buffer_prototype)
    if data is None:
        raise StoreError(
            f"expected {root}/{path}, found nothing: this object of the slide is lost; "
            "restore it from a copy, or encode the slide again"
        )
    try:
        values = await _on_threads(here, lambda: decode(data.to_bytes()))
    except BitstreamError as error:
        raise BitstreamError(f"{root}/{path}: {error}") from error
    here.chunks.put((slide, path), values, values.nbytes)
    return values


async def _on_threads(here: State, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(here.requests, work)


def as_shown(pixels: Any, layout: str) -> Any:
    """Rows, columns, colours in the order of a level ("yxc") or of its OME view ("cyx").

    An array, or a tensor of a device, which is not copied.
    """
    if layout == "yxc":
        return pixels
    if isinstance(pixels, np.ndarray):
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return pixels.permute(2, 0, 1)
