"""`wsicodec_tile`: one RGB chunk as bytes that stand alone, for zarr 2 and all that uses numcodecs.

The chunk is a little slide of its own: embeddings of its 256 x 256 patches, a real picture of a
coarser level, and nothing outside. Decoding draws from that picture down to the chunk's pixels.
Little-endian layout, format 1:

    offset  size  content
    0       4     magic "WSIT"
    4       1     format
    5       1     level of the real picture, 255 for none
    6       2     zero
    8       4     height of the chunk, 1 to 65535
    12      4     width
    16      4     bytes of the picture, p
    20      4     bytes of the embeddings, e
    24      4     CRC-32 of all that follows, after that of the header's first 24 bytes
    28      p     the picture, by the `wsicodec.image` codec
    28+p    e     the embeddings, a `wsicodec_embed` payload

Nothing may follow. A patch that is plain glass has no embedding.
"""

import hashlib
import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray_like
from numpy.typing import NDArray

from wsicodec.codec.compute import compute, view_of
from wsicodec.codec.plan import plan_region
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.codec.region import Fetched
from wsicodec.codec.tables import embedding_tables
from wsicodec.coding.bitstream import decode_grid, encode_grid
from wsicodec.coding.images import ImageFormat, encode_image
from wsicodec.config import BLANK, GENERATED, DrawOptions, StoreInfo
from wsicodec.errors import BitstreamError, ConfigError
from wsicodec.geometry import PATCH, Region, check_mpp, grid_shape, level_shape
from wsicodec.models.bundle import find_bundle, load_bundle
from wsicodec.models.networks import Embedder, load_embedder
from wsicodec.resample import box_reduce

_HEADER = struct.Struct("<4sBBHIIIII")
_MAGIC, _FORMAT, _NO_PICTURE, _LARGEST = b"WSIT", 1, 255, 65535
_GLASS_MEAN, _GLASS_SPREAD = 235, 4  # a patch this bright and this even holds no tissue
_PRESETS = ("semantic", "standard", "detail")


class TileCodec(Codec):  # type: ignore[misc]
    """Encode RGB chunks as embeddings and a coarse picture; decode by drawing them.

    Args:
        fingerprint: of the bundle whose weights are needed; None takes the embedded default's.
        preset: which real picture to keep: "semantic" (none), "standard" or "detail".
        mpp: micrometres per pixel of the chunks.

    Lossy: what is decoded is generated and not for diagnosis.
    """

    codec_id = "wsicodec_tile"

    def __init__(
        self, fingerprint: str | None = None, preset: str = "standard", mpp: float = 0.5
    ) -> None:
        if preset not in _PRESETS:
            raise ConfigError(f"wsicodec_tile: expected preset among {_PRESETS}, got {preset!r}")
        self.fingerprint = fingerprint or load_bundle().fingerprint
        self.preset = preset
        self.mpp = check_mpp(mpp)

    def encode(self, buf: Any) -> bytes:
        """Encode (h, w, 3) uint8 pixels."""
        rgb = np.asarray(buf)
        if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape:
            raise ConfigError(
                f"wsicodec_tile: expected (h, w, 3) uint8, got {rgb.shape} {rgb.dtype}; "
                "chunk the array so that a chunk holds all three colours"
            )
        if max(rgb.shape) > _LARGEST:
            raise ConfigError(f"wsicodec_tile: expected sides up to {_LARGEST}, got {rgb.shape}")
        grid = _embeddings(rgb, _embedder(self.fingerprint))
        embeddings = encode_grid(grid, np.any(grid, axis=-1), embedding_tables(self.fingerprint))
        plan = find_bundle(self.fingerprint).anchor(self.preset)
        picture, level = b"", _NO_PICTURE
        if plan is not None:
            level = plan.level
            form = ImageFormat(plan.codec, plan.quality)
            picture = encode_image(box_reduce(rgb, 1 << level), form)
        head = (_MAGIC, _FORMAT, level, 0, *rgb.shape[:2], len(picture), len(embeddings))
        crc = _crc(_HEADER.pack(*head, 0)[:24], picture + embeddings)
        return _HEADER.pack(*head, crc) + picture + embeddings

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Draw the chunk; returns (h, w, 3) uint8, or fills `out`."""
        data = bytes(ensure_contiguous_ndarray_like(buf))
        level, shape, picture, embeddings = _parse(data)
        digest = hashlib.sha256(data).hexdigest()[:32]
        grid, valid = decode_grid(embeddings, embedding_tables(self.fingerprint), grid_shape(shape))
        record = self._record(digest, shape, level, valid)
        region = Region(0, 0, *shape)
        halo = view_of(find_bundle(self.fingerprint)).halo
        plan = plan_region(record, 0, region, lambda _: None, halo=halo)
        fetched = Fetched(embeddings={(0, 0): grid})
        if level is not None:
            array = record.pictures[level]
            fetched.pictures[level, 0, 0] = array.decode(picture)
        pixels = compute(record, plan, fetched, DrawOptions()).run(0, region)
        if out is None:
            return pixels
        np.copyto(np.asarray(out).reshape(pixels.shape), pixels)
        return out

    def _record(
        self, digest: str, shape: tuple[int, int], level: int | None, valid: NDArray[np.bool_]
    ) -> SlideRecord:
        bundle = find_bundle(self.fingerprint)
        info = StoreInfo(
            slide=digest,
            fingerprint=self.fingerprint,
            bundle=bundle.name,
            shape=shape,
            mpp=self.mpp,
            mpp_source="caller",
            preset=self.preset,
            measured={} if level is None else {level: "picture"},
            steps=bundle.steps,
        )
        pictures = {}
        plan = bundle.anchor(self.preset)
        if level is not None and plan is not None:
            form = ImageFormat(plan.codec, plan.quality)
            size = level_shape(shape, level)
            pictures[level] = ImageArray("picture", size, size, form)
        tissue = np.where(valid, GENERATED, BLANK).astype(np.uint8)
        return SlideRecord(info, tissue, grid_shape(shape), pictures, None)


@cache
def _embedder(fingerprint: str) -> Embedder:
    return load_embedder(find_bundle(fingerprint))


def _embeddings(rgb: NDArray[np.uint8], embed: Embedder) -> NDArray[np.float32]:
    """(gy, gx, d) embeddings of a chunk's patches, zero for plain glass."""
    gy, gx = grid_shape((rgb.shape[0], rgb.shape[1]))
    white = ((0, gy * PATCH - rgb.shape[0]), (0, gx * PATCH - rgb.shape[1]), (0, 0))
    full = np.pad(rgb, white, constant_values=255)
    patches = full.reshape(gy, PATCH, gx, PATCH, 3).swapaxes(1, 2).reshape(-1, PATCH, PATCH, 3)
    glass = (patches.mean((1, 2, 3)) > _GLASS_MEAN) & (patches.std((1, 2, 3)) < _GLASS_SPREAD)
    vectors = embed(patches) * ~glass[:, None]
    return np.asarray(vectors.reshape(gy, gx, -1), np.float32)


def _crc(head: bytes, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(head))


def _parse(data: bytes) -> tuple[int | None, tuple[int, int], bytes, bytes]:
    """Level and bytes of the picture, shape of the chunk, bytes of the embeddings; all checked."""
    if len(data) < _HEADER.size or data[:4] != _MAGIC:
        raise BitstreamError(
            f"expected a wsicodec_tile payload that begins with {_MAGIC!r}, got {data[:4]!r}"
        )
    _, form, level, _, height, width, p, e, crc = _HEADER.unpack_from(data)
    if form != _FORMAT:
        raise BitstreamError(f"expected wsicodec_tile format {_FORMAT}, got {form}")
    if len(data) != _HEADER.size + p + e:
        raise BitstreamError(
            f"expected {_HEADER.size + p + e} bytes of wsicodec_tile payload, got {len(data)}: "
            "it is truncated or has been added to"
        )
    if _crc(data[:24], data[_HEADER.size :]) != crc:
        raise BitstreamError("a wsicodec_tile payload is damaged: its checksum does not fit")
    if not (0 < height <= _LARGEST and 0 < width <= _LARGEST):
        raise BitstreamError(f"a wsicodec_tile payload has the implausible size {height}x{width}")
    body = data[_HEADER.size :]
    return None if level == _NO_PICTURE else level, (height, width), body[:p], body[p:]
