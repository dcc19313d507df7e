"""Everything a store says of itself, as JSON: the root's attributes and each array's document.

Documents are written without spaces and without optional members: on a small slide they are a
good part of all bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from wsicodec.codec.embed_zarr import Embed
from wsicodec.codec.image_zarr import Image
from wsicodec.codec.pixels_zarr import Pixels
from wsicodec.config import StoreInfo
from wsicodec.geometry import LEVELS, level_shape

CHUNK = 1024  # pixels; side of a chunk of any stored or drawn level
GRID_CHUNK = 32  # patches; side of a chunk of embeddings
MANIFEST = "tissue/manifest.json"  # in an array's folder: zarr warns of strangers in a group's
ROOT = "zarr.json"
INSTALL_HINT = "pip install wsicodec"

Json = dict[str, Any]
Digests = Mapping[str, tuple[int, str]]  # path -> bytes, SHA-256 in hex


def dump(document: Any) -> bytes:
    """JSON in as few bytes as it takes."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def slide_digest(
    shape: tuple[int, int], fingerprint: str, payloads: Digests, sketch: Mapping[int, str]
) -> str:
    """32 hex digits that name a slide: they seed its noise and key every cache.

    shape: height and width of level 0 in pixels.
    fingerprint: of the bundle.
    payloads: every object that pixels are made from; no metadata. Real pictures count, so that
        two presets of one slide never share a cached tile.
    sketch: level and digest of what computes it, where there is one.
    """
    digest = hashlib.sha256(f"wsicodec 1 {shape[0]} {shape[1]} {fingerprint}\n".encode())
    for path in sorted(payloads):
        digest.update(f"{path} {payloads[path][1]}\n".encode())
    for level, computed in sketch.items():
        digest.update(f"sketch {level} {computed}\n".encode())
    return digest.hexdigest()[:32]


def is_payload(path: str) -> bool:
    """Whether an object of a store is a chunk, rather than JSON about chunks."""
    return "/c/" in path


def manifest(objects: Digests) -> bytes:
    """The manifest: size and SHA-256 of every other object."""
    return dump({"format": 1, "objects": {p: list(objects[p]) for p in sorted(objects)}})


def root_document(info: StoreInfo) -> bytes:
    """The root group's `zarr.json` with OME metadata and the `wsicodec` attribute."""
    image = _multiscale(info)
    omero = {
        "channels": [
            {
                "label": label,
                "color": colour,
                "active": True,
                "window": {"min": 0, "max": 255, "start": 0, "end": 255},
            }
            for label, colour in (("R", "FF0000"), ("G", "00FF00"), ("B", "0000FF"))
        ],
        "rdefs": {"model": "color"},
    }
    attributes = {
        "ome": {"version": "0.5", "multiscales": [image], "omero": omero},
        # tiatoolbox reads only what OME 0.4 had at the root
        "multiscales": [{"version": "0.4", **image}],
        "omero": omero,
        "wsicodec": {**info.to_json(), "x-install": INSTALL_HINT},
    }
    return group_document(attributes)


def group_document(attributes: Json | None = None) -> bytes:
    """A group's `zarr.json`."""
    document: Json = {"zarr_format": 3, "node_type": "group"}
    return dump(document | ({"attributes": attributes} if attributes else {}))


def pixel_documents(info: StoreInfo) -> dict[str, bytes]:
    """The drawn levels' documents by path, in both axis orders, and the group `cyx`."""
    documents = {f"cyx/{ROOT}": group_document()}
    for level in range(LEVELS):
        height, width = level_shape(info.shape, level)
        yxc = Pixels(level, info.slide)
        cyx = Pixels(level, info.slide, "cyx", "../..")
        documents[f"{level}/{ROOT}"] = array_document(
            (height, width, 3), (CHUNK, CHUNK, 3), "uint8", [yxc.to_dict()], "yxc"
        )
        documents[f"cyx/{level}/{ROOT}"] = array_document(
            (3, height, width), (3, CHUNK, CHUNK), "uint8", [cyx.to_dict()], "cyx"
        )
    return documents


def embedding_document(grid_shape: tuple[int, int], width: int, codec: Embed) -> bytes:
    """The document of `embeddings`, (gy, gx, width)."""
    chunk = (GRID_CHUNK, GRID_CHUNK, width)
    names = ("gy", "gx", "d")
    return array_document((*grid_shape, width), chunk, "float32", [codec.to_dict()], names)


def image_document(shape: tuple[int, int], chunk: tuple[int, int], codec: Image) -> bytes:
    """The document of a stored picture, (y, x, 3)."""
    return array_document((*shape, 3), (*chunk, 3), "uint8", [codec.to_dict()], "yxc")


def plain_document(shape: tuple[int, ...], names: Iterable[str]) -> bytes:
    """The document of an array of bytes in one zstd chunk."""
    zstd = {"name": "zstd", "configuration": {"level": 19, "checksum": False}}
    return array_document(shape, shape, "uint8", [{"name": "bytes"}, zstd], names)


def array_document(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    data_type: str,
    codecs: list[Any],
    names: Iterable[str],
) -> bytes:
    """An array's `zarr.json`; fill is 0, black, so that what bypasses our codecs shows."""
    return dump(
        {
            "zarr_format": 3,
            "node_type": "array",
            "shape": shape,
            "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
            "chunk_key_encoding": {"name": "default"},
            "fill_value": 0,
            "codecs": codecs,
            "dimension_names": list(names),
        }
    )


def _multiscale(info: StoreInfo) -> Json:
    space = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    return {
        "name": "synthetic slide" if info.synthetic else "slide",
        "axes": [{"name": "c", "type": "channel"}, *space],
        "datasets": [
            {
                "path": f"cyx/{level}",
                "coordinateTransformations": [
                    {"type": "scale", "scale": [1.0, info.mpp * 2**level, info.mpp * 2**level]}
                ],
            }
            for level in range(LEVELS)
        ],
    }
