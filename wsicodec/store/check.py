"""Whether a store is whole: every object against the manifest, and every payload decoded."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from wsicodec.codec.embed_zarr import Embed
from wsicodec.codec.image_zarr import Image
from wsicodec.codec.pixels_zarr import NAME as PIXELS
from wsicodec.config import BLANK, StoreInfo
from wsicodec.errors import BundleError, WsiCodecError
from wsicodec.geometry import LEVELS, PATCH, grid_shape, level_shape
from wsicodec.models.bundle import find_bundle
from wsicodec.store.metadata import GRID_CHUNK, MANIFEST, ROOT, is_payload, slide_digest
from wsicodec.store.publish import Target, list_objects, read_info, read_json, read_object, reading

Digests = dict[str, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `check_store` found."""

    objects: int  # that were looked at
    findings: tuple[str, ...]  # a line each; none if the store is whole

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def check_store(source: Target) -> CheckReport:
    """Look for damage in a store.

    source: a folder, a .zip, a zarr store object or an fsspec URL.

    Every object is compared with the manifest, every stored payload is decoded, and a tile of
    every level is drawn. Raises StoreError if it is not a store at all.
    """
    with reading(source) as store:
        info = read_info(store)
        found, findings = _against_manifest(store)
        findings += _levels(store, info)
        bundle = _bundle(info)
        findings += bundle
        tissue, damaged = _tissue(store, info)
        findings += damaged
        if not bundle:
            findings += _embeddings(store, tissue)
        findings += _pictures(store, info)
        payloads = _payloads(found)
        if slide_digest(info.shape, info.fingerprint, payloads, info.sketch) != info.slide:
            findings.append("the payloads are not those that the slide's digest was made from")
        if not findings:
            findings += _tiles(store, tissue)
    return CheckReport(len(found), tuple(findings))


def _against_manifest(store: Store) -> tuple[Digests, list[str]]:
    """Size and digest of all that is there, and how it differs from the manifest."""
    found: Digests = {}
    for path in list_objects(store):
        data = read_object(store, path) or b""
        found[path] = len(data), hashlib.sha256(data).hexdigest()
    try:
        listed = {
            str(p): (int(n), str(h)) for p, (n, h) in read_json(store, MANIFEST)["objects"].items()
        }
    except (WsiCodecError, KeyError, TypeError, ValueError, AttributeError) as error:
        return found, [f"{MANIFEST}: {error}"]
    findings = [
        f"{path}: lost, but {MANIFEST} lists it" for path in sorted(listed.keys() - found.keys())
    ]
    extra = sorted(found.keys() - listed.keys() - {MANIFEST})
    findings += [f"{path}: not in {MANIFEST}" for path in extra]
    for path in sorted(listed.keys() & found.keys()):
        if listed[path] != found[path]:
            was, now = listed[path][0], found[path][0]
            findings.append(f"{path}: not as {MANIFEST} has it, {was} bytes there, {now} here")
    return found, findings


def _payloads(found: Digests) -> Digests:
    return {path: entry for path, entry in found.items() if is_payload(path)}


def _bundle(info: StoreInfo) -> list[str]:
    try:
        find_bundle(info.fingerprint)
    except BundleError as error:
        return [f"bundle {info.bundle}: {error}"]
    return []


def _levels(store: Store, info: StoreInfo) -> list[str]:
    """Each drawn level has its shape and our codec alone; a second one would show black."""
    findings = []
    for level in range(LEVELS):
        height, width = level_shape(info.shape, level)
        for path, shape in ((f"{level}", [height, width, 3]), (f"cyx/{level}", [3, height, width])):
            try:
                document = read_json(store, f"{path}/{ROOT}")
            except WsiCodecError as error:
                findings.append(f"{path}: {error}")
                continue
            names = [codec.get("name") for codec in document.get("codecs", [])]
            if names != [PIXELS]:
                findings.append(f"{path}: expected the one codec {PIXELS}, got {names}")
            if document.get("shape") != shape:
                findings.append(f"{path}: expected shape {shape}, got {document.get('shape')}")
    return findings


def _tissue(store: Store, info: StoreInfo) -> tuple[NDArray[np.uint8], list[str]]:
    expected = grid_shape(info.shape)
    try:
        tissue = np.asarray(zarr.open_array(store, path="tissue", mode="r")[...], np.uint8)
    except (ValueError, RuntimeError, OSError) as error:
        return np.zeros(expected, np.uint8), [f"tissue: {error}"]
    if tissue.shape != expected:
        return np.zeros(expected, np.uint8), [
            f"tissue: expected a grid of {expected}, got {tissue.shape}"
        ]
    return tissue, []


def _embeddings(store: Store, tissue: NDArray[np.uint8]) -> Iterator[str]:
    """Chunks decode, and have a vector exactly where there is tissue."""
    try:
        document = read_json(store, f"embeddings/{ROOT}")
        codec, shape = _single(document, Embed), _chunk(document)
    except (WsiCodecError, KeyError, TypeError, ValueError) as error:
        yield f"embeddings: {error}"
        return
    for i in range(-(-tissue.shape[0] // GRID_CHUNK)):
        for j in range(-(-tissue.shape[1] // GRID_CHUNK)):
            place = np.s_[
                i * GRID_CHUNK : (i + 1) * GRID_CHUNK, j * GRID_CHUNK : (j + 1) * GRID_CHUNK
            ]
            wanted = tissue[place] != BLANK
            path = f"embeddings/c/{i}/{j}/0"
            data = read_object(store, path)
            if data is None:
                if wanted.any():
                    yield f"{path}: missing, though the tissue array has tissue there"
                continue
            try:
                grid = codec.decode_grid(data, shape)
            except WsiCodecError as error:
                yield f"{path}: {error}"
                continue
            height, width = wanted.shape
            if not np.array_equal(grid[:height, :width].any(axis=2), wanted):
                yield f"{path}: its vectors are not where the tissue array has tissue"


def _pictures(store: Store, info: StoreInfo) -> Iterator[str]:
    """Every chunk of a stored picture is there and decodes."""
    pictures = {path: level_shape(info.shape, level) for level, path in info.pictures.items()}
    if info.roi:
        pictures["roi"] = info.shape
    for path, expected in pictures.items():
        try:
            document = read_json(store, f"{path}/{ROOT}")
            codec, shape = _single(document, Image), _chunk(document)
        except (WsiCodecError, KeyError, TypeError, ValueError) as error:
            yield f"{path}: {error}"
            continue
        if tuple(document["shape"]) != (*expected, 3):
            yield f"{path}: expected shape {(*expected, 3)}, got {document['shape']}"
        for i in range(-(-expected[0] // shape[0])):
            for j in range(-(-expected[1] // shape[1])):
                data = read_object(store, f"{path}/c/{i}/{j}/0")
                if data is None and path == "roi":
                    continue
                try:
                    codec.decode_chunk(data or b"", shape)
                except WsiCodecError as error:
                    yield f"{path}/c/{i}/{j}/0: {error}"


def _single(document: dict[str, Any], kind: type[Any]) -> Any:
    codecs = document["codecs"]
    if len(codecs) != 1:
        raise ValueError(f"expected one codec, got {json.dumps(codecs)}")
    return kind.from_dict(codecs[0])


def _chunk(document: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(n) for n in document["chunk_grid"]["configuration"]["chunk_shape"])


def _tiles(store: Store, tissue: NDArray[np.uint8]) -> Iterator[str]:
    """Draw a tile of every level, at a place with tissue where there is any."""
    found = np.argwhere(tissue != BLANK)
    gy, gx = found[len(found) // 2] if len(found) else (0, 0)
    root = zarr.open_group(store, mode="r")
    for level in range(LEVELS):
        array = root[str(level)]
        assert isinstance(array, zarr.Array)
        y, x = ((int(g) * PATCH >> level) // PATCH * PATCH for g in (gy, gx))
        try:
            tile = np.asarray(array[y : y + PATCH, x : x + PATCH])
        except (ValueError, TypeError, RuntimeError, OSError) as error:
            yield f"level {level}: row {y}, column {x} does not draw: {error}"
            continue
        if not tile.any():
            yield f"level {level}: row {y}, column {x} reads as fill, not as pixels"
