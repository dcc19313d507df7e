"""A store without a slide behind it: embeddings that were drawn, flagged wherever one may look.

It opens as any other of preset semantic. Its root says so, its arrays say so, its notice says so,
and a reader that refuses generated pixels gets none of its tiles, the glass included. A sketch, a
few pixels per patch that were drawn with the embeddings, is what the first drawn level starts from.
"""

import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec import __version__
from wsicodec.codec.embed_zarr import Embed
from wsicodec.codec.image_zarr import Image
from wsicodec.coding.images import ImageFormat
from wsicodec.coding.quantizer import EmbeddingTables, dequantize
from wsicodec.config import BLANK, GENERATED, STORE_FORMAT, SYNTHETIC_NOTICE, StoreInfo
from wsicodec.errors import ConfigError, WsiCodecError
from wsicodec.geometry import NATIVE_MPP, PATCH, grid_shape, level_shape
from wsicodec.models.bundle import Bundle
from wsicodec.store.blocks import write_picture
from wsicodec.store.finish import close_store, write_plain
from wsicodec.store.job import Job, Objects
from wsicodec.store.metadata import (
    GRID_CHUNK,
    ROOT,
    dump,
    embedding_document,
    image_document,
    pixel_documents,
    plain_document,
    root_document,
    slide_digest,
)
from wsicodec.store.plan import Picture
from wsicodec.store.publish import Destination, Target, check_destination
from wsicodec.store.report import EncodeReport

__all__ = ["Novelty", "check_destination", "describe_novelty", "write_synthetic"]

PRESET = "semantic"  # embeddings alone: there is nothing real to hold on to
GLASS = (243, 242, 244)  # RGB
SKETCH = "sketch"  # path of the array
SKETCH_FORM = ImageFormat("avif", quality=80)
FLAG = {"synthetic": True, "notice": SYNTHETIC_NOTICE}


@dataclass(frozen=True)
class Novelty:
    """A slide that never was, as drawn.

    shape: height and width of level 0 in pixels.
    tissue: (gy, gx), where there is any.
    symbols: (n, k) of the cells with tissue, row by row.
    sketch: RGB (gy * p, gx * p, 3), p pixels a side of a patch, a power of two below PATCH.
    origin: JSON-safe facts from which it can be drawn again, such as the seed.
    """

    shape: tuple[int, int]
    tissue: NDArray[np.bool_]
    symbols: NDArray[np.int32]
    sketch: NDArray[np.uint8]
    origin: dict[str, Any]

    @property
    def sketch_level(self) -> int:
        """The level whose pixels the sketch has."""
        pixels = int(PATCH * self.tissue.shape[0] // self.sketch.shape[0])  # of level 0, for one
        return pixels.bit_length() - 1


def write_synthetic(
    novelty: Novelty, dst: Target, bundle: Bundle, overwrite: bool = False
) -> EncodeReport:
    """Write a slide that never was into a new store; equal ones give equal bytes.

    Args:
        novelty: what was drawn.
        dst: a folder, a path ending in .zip, a zarr store object or an fsspec URL.
        bundle: whose tables code the symbols and whose networks draw the pixels.
        overwrite: replace the store at `dst`, once the new one is whole.

    Raises:
        StoreExistsError: something stands at `dst`.
        ConfigError: the grid is not that of the shape.
    """
    began = time.monotonic()
    if novelty.tissue.shape != grid_shape(novelty.shape):
        raise ConfigError(
            f"expected a grid of {grid_shape(novelty.shape)} patches for {novelty.shape} pixels, "
            f"got {novelty.tissue.shape}"
        )
    classes = np.where(novelty.tissue, GENERATED, BLANK).astype(np.uint8)
    destination = Destination(dst)
    destination.refuse_existing(overwrite)
    with destination.working_name() as base, Job(base, _identity(novelty, bundle)) as job:
        try:
            payloads = _embeddings(job, novelty, bundle) | _sketch(job, novelty)
            payloads |= write_plain(job, "tissue", classes)
            digest = slide_digest(novelty.shape, bundle.fingerprint, payloads, {})
            documents = _documents(novelty, describe_novelty(novelty, bundle, digest), bundle)
            size = close_store(job, classes, payloads, documents)
            size = destination.publish(job, overwrite) or size
        except WsiCodecError:
            job.discard()
            raise
        job.discard()
    return _report(novelty, classes, str(destination), size, time.monotonic() - began)


def describe_novelty(novelty: Novelty, bundle: Bundle, digest: str) -> StoreInfo:
    """The `wsicodec` attribute of the store; `digest` as `slide_digest` gives it."""
    step = {"step": "sample", "method": "embedding diffusion", "drawn": "generative"}
    return StoreInfo(
        slide=digest,
        fingerprint=bundle.fingerprint,
        bundle=bundle.name,
        shape=novelty.shape,
        mpp=NATIVE_MPP,
        mpp_source="synthetic",
        preset=PRESET,
        measured={},
        background=GLASS,
        steps=bundle.steps,
        source={
            "synthetic": True,
            "sketch": {str(novelty.sketch_level): SKETCH},
            "origin": novelty.origin,
            "facts": {},
            "mpp": NATIVE_MPP,
            "tissue": round(float(novelty.tissue.mean()), 4),
            "derivation": [step],
        },
        encoder=f"wsicodec {__version__}",
        notice=SYNTHETIC_NOTICE,
    )


def _identity(novelty: Novelty, bundle: Bundle) -> dict[str, Any]:
    return {
        "format": STORE_FORMAT,
        "encoder": __version__,
        "bundle": bundle.fingerprint,
        "shape": list(novelty.shape),
        "synthetic": novelty.origin,
    }


def _embeddings(job: Job, novelty: Novelty, bundle: Bundle) -> Objects:
    """Write every chunk of embeddings that holds tissue."""
    tables = EmbeddingTables.from_tensors(bundle.tensors("codec.safetensors"))
    rows, columns = novelty.tissue.shape
    grid = np.zeros((rows, columns, tables.width), np.float32)
    grid[novelty.tissue] = dequantize(novelty.symbols, tables)
    codec = Embed(bundle.fingerprint)
    objects: Objects = {}
    for y in range(0, rows, GRID_CHUNK):
        for x in range(0, columns, GRID_CHUNK):
            part = grid[y : y + GRID_CHUNK, x : x + GRID_CHUNK]
            if not part.any():
                continue
            chunk = np.zeros((GRID_CHUNK, GRID_CHUNK, tables.width), np.float32)
            chunk[: part.shape[0], : part.shape[1]] = part
            path = f"embeddings/c/{y // GRID_CHUNK}/{x // GRID_CHUNK}/0"
            objects |= job.write(path, codec.encode_grid(chunk))
    return objects


def _picture(novelty: Novelty) -> Picture:
    level = novelty.sketch_level
    return Picture(SKETCH, level, level_shape(novelty.shape, level), SKETCH_FORM)


def _sketch(job: Job, novelty: Novelty) -> Objects:
    """Write the chunks of the sketch, cut to the slide."""
    picture = _picture(novelty)
    objects: Objects = {}
    (rows, columns), (height, width) = picture.shape, picture.chunk
    whole = novelty.sketch[:rows, :columns]
    for y in range(0, rows, height):
        for x in range(0, columns, width):
            path = picture.chunk_path(y // height, x // width)
            objects |= write_picture(job, path, whole[y : y + height, x : x + width], picture.form)
    return objects


def _documents(novelty: Novelty, info: StoreInfo, bundle: Bundle) -> dict[str, bytes]:
    grid = grid_shape(info.shape)
    codec = Embed(bundle.fingerprint)
    arrays = pixel_documents(info)
    arrays[f"tissue/{ROOT}"] = plain_document(grid, ("gy", "gx"))
    picture = _picture(novelty)
    arrays[f"{SKETCH}/{ROOT}"] = image_document(picture.shape, picture.chunk, Image(picture.form))
    arrays[f"embeddings/{ROOT}"] = embedding_document(grid, bundle.embedding_width, codec)
    return {ROOT: root_document(info)} | {path: _flagged(doc) for path, doc in arrays.items()}


def _flagged(document: bytes) -> bytes:
    """A node's document with the flag among its attributes."""
    record = json.loads(document)
    return dump({**record, "attributes": {**record.get("attributes", {}), **FLAG}})


def _report(
    novelty: Novelty, classes: NDArray[np.uint8], path: str, size: int, seconds: float
) -> EncodeReport:
    return EncodeReport.of(
        path,
        size,
        novelty.shape,
        classes,
        fraction=float(novelty.tissue.mean()),
        patches=int(novelty.tissue.sum()),
        seconds=seconds,
    )
