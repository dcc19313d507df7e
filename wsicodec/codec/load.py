"""A slide's record, read from its root in any zarr store."""

import json
from typing import Any

import numpy as np
import zarr.api.asynchronous as zarr_async
from numpy.typing import NDArray
from zarr.core.buffer.cpu import buffer_prototype
from zarr.storage import StorePath

from wsicodec.codec.image_zarr import Image
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.config import StoreInfo
from wsicodec.errors import StoreError
from wsicodec.geometry import grid_shape


async def load_record(root: StorePath, slide: str) -> SlideRecord:
    """Read a slide's facts from its root.

    Args:
        root: the slide's root group in its store.
        slide: the digest that the caller's array names; another slide's root is refused.

    Raises:
        StoreError: the root is missing, damaged, or another slide's.
    """
    info = StoreInfo.from_json((await _metadata(root)).get("attributes", {}).get("wsicodec"))
    if info.slide != slide:
        raise StoreError(
            f"expected the slide {slide} at the root of this array, found {info.slide}; "
            "the level was moved away from its slide"
        )
    embeddings = await _metadata(root / "embeddings")
    pictures = {level: await _image_array(root, path) for level, path in info.pictures.items()}
    tissue = await _tissue(root)
    if tissue.shape != grid_shape(info.shape):
        raise StoreError(f"expected a tissue grid {grid_shape(info.shape)}, got {tissue.shape}")
    return SlideRecord(
        info,
        tissue,
        _chunk_shape(embeddings),
        pictures,
        await _image_array(root, "roi") if info.roi else None,
    )


async def _tissue(root: StorePath) -> NDArray[np.uint8]:
    array = await zarr_async.open_array(
        store=root.store, path=f"{root.path}/tissue".strip("/"), mode="r", zarr_format=3
    )
    grid = await array.getitem((slice(None), slice(None)), prototype=buffer_prototype)
    return np.asarray(grid, np.uint8)


async def _metadata(node: StorePath) -> dict[str, Any]:
    data = await (node / "zarr.json").get(prototype=buffer_prototype)
    if data is None:
        raise StoreError(f"expected {node}/zarr.json, found nothing; the slide is incomplete")
    try:
        return dict(json.loads(data.to_bytes()))
    except ValueError as error:
        raise StoreError(f"{node}/zarr.json is damaged: {error}") from error


def _chunk_shape(metadata: dict[str, Any]) -> tuple[int, int]:
    height, width = metadata["chunk_grid"]["configuration"]["chunk_shape"][:2]
    return int(height), int(width)


async def _image_array(root: StorePath, path: str) -> ImageArray:
    metadata = await _metadata(root / path)
    height, width = metadata["shape"][:2]
    if len(metadata["codecs"]) != 1:
        raise StoreError(f"expected {path} to have one codec, got {metadata['codecs']}")
    form = Image.from_dict(metadata["codecs"][0]).form
    return ImageArray(path, (int(height), int(width)), _chunk_shape(metadata), form)
