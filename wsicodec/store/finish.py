"""The last steps before a store gets its name: metadata, manifest, and a look at the result."""

from typing import Any

import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from wsicodec.codec.image_zarr import Image
from wsicodec.coding.images import LOSSLESS
from wsicodec.config import BLANK, StoreInfo
from wsicodec.errors import StoreError
from wsicodec.geometry import LEVELS, PATCH
from wsicodec.store.job import Job, Objects
from wsicodec.store.metadata import (
    MANIFEST,
    ROOT,
    embedding_document,
    image_document,
    manifest,
    pixel_documents,
    plain_document,
    root_document,
    slide_digest,
)
from wsicodec.store.work import Work, describe_slide


def finish_store(job: Job, work: Work, payloads: Objects) -> int:
    """Write all that surrounds the payloads, look at the result, and bring it to the disk.

    payloads: what `run_blocks` returned.

    Returns the bytes of the whole store; raises StoreError if it does not read back.
    """
    payloads = payloads | write_plain(job, "tissue", work.classes)
    if work.slide.icc:
        payloads |= write_plain(job, "icc", np.frombuffer(work.slide.icc, np.uint8))
    digest = slide_digest(work.slide.shape, work.bundle.fingerprint, payloads, work.sketch)
    info = describe_slide(work, digest)
    return close_store(job, work.classes, payloads, _documents(work, info))


def close_store(
    job: Job, classes: NDArray[np.uint8], payloads: Objects, documents: dict[str, bytes]
) -> int:
    """Write the documents and the manifest, look at the result, and bring it to the disk.

    classes: the `tissue` array (gy, gx).
    payloads: every chunk, written.
    documents: JSON by its path.

    Returns the bytes of the whole store; raises StoreError if it does not read back.
    """
    objects = dict(payloads)
    for path, document in documents.items():
        objects |= job.write(path, document)
    size = sum(n for n, _ in objects.values())
    listing = manifest(objects)
    job.write(MANIFEST, listing)
    _check_reads_back(job, classes)
    job.sync()
    return size + len(listing)


def _documents(work: Work, info: StoreInfo) -> dict[str, bytes]:
    grid = work.classes.shape
    documents = pixel_documents(info)
    documents[ROOT] = root_document(info)
    documents[f"tissue/{ROOT}"] = plain_document(grid, ("gy", "gx"))
    documents[f"embeddings/{ROOT}"] = embedding_document(
        (grid[0], grid[1]), work.bundle.embedding_width, work.codec
    )
    for picture in work.pictures:
        documents[f"{picture.path}/{ROOT}"] = image_document(
            picture.shape, picture.chunk, Image(picture.form)
        )
    if work.roi:
        documents[f"roi/{ROOT}"] = image_document(info.shape, work.roi_chunk, Image(LOSSLESS))
    if work.slide.icc:
        documents[f"icc/{ROOT}"] = plain_document((len(work.slide.icc),), ("byte",))
    return documents


def write_plain(job: Job, path: str, array: NDArray[np.uint8]) -> Objects:
    """Write the only chunk of an array that `plain_document` describes."""
    chunk = "/".join(["0"] * array.ndim)
    data = bytes(Zstd(level=19).encode(np.ascontiguousarray(array)))
    return job.write(f"{path}/c/{chunk}", data)


def _check_reads_back(job: Job, classes: NDArray[np.uint8]) -> None:
    """Open the store as a stranger would, and read embeddings and a tile of every level."""
    root = zarr.open_group(job.store, mode="r")
    gy, gx = _some_tissue(classes)
    embeddings = np.asarray(_array(root, "embeddings")[gy, gx])
    if classes[gy, gx] != BLANK and not embeddings.any():
        raise StoreError(f"expected an embedding at ({gy}, {gx}), read zeros; encode again")
    for level in range(LEVELS):
        array = _array(root, str(level))
        y, x = ((g * PATCH >> level) // PATCH * PATCH for g in (gy, gx))
        tile = np.asarray(array[y : y + PATCH, x : x + PATCH])
        if not tile.any():
            raise StoreError(
                f"expected pixels at level {level}, row {y}, column {x}, read only fill; "
                "is the zarr codec wsicodec.pixels the one of this version?"
            )


def _array(root: zarr.Group, path: str) -> "zarr.Array[Any]":
    node = root[path]
    assert isinstance(node, zarr.Array)
    return node


def _some_tissue(classes: NDArray[np.uint8]) -> tuple[int, int]:
    """A patch with tissue, in the middle of the list of them; (0, 0) if there is none."""
    found = np.argwhere(classes != BLANK)
    if not len(found):
        return 0, 0
    gy, gx = found[len(found) // 2]
    return int(gy), int(gx)
