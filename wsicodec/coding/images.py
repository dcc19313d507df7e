"""Real pictures, RGB uint8 to bytes and back, as the stored levels of a slide need them.

A payload is a CRC-32 (4 bytes) of what follows. Then come height and width (2 bytes each) and a
plain AVIF or JPEG XL file of that size, which lies in the chunk's upper left corner: at a level's
lower and right border chunks stick out, and what is beyond repeats the picture's last pixels. Or
there comes, for source tiles passed through, this container:

    offset  bytes  field
    0       4      magic "WSIJ"
    4       1      version, 1
    5       1      tile rows r, 1..255
    6       1      tile columns c, 1..255
    7       1      reserved, 0
    8       4 r c  length of each tile in bytes, row by row
    ...            the tiles' JPEG streams in the same order, nothing after them

Integers are little-endian. A tile of length 0 lies outside the source and is white. The tables
that the source shares between its tiles (an abbreviated JPEG stream) are in the configuration.
"""

import base64
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BitstreamError, ConfigError

CODECS = ("avif", "jpegxl", "jpeg_tiles")
COLOURSPACES = ("rgb", "ycbcr")
KEYS = frozenset({"codec", "quality", "tile", "tables", "colourspace"})
AVIF_SPEED = 9  # 0.04 s a megapixel; at equal bytes of 5x H&E, 8 gains nothing and 6 only
# 0.4 dB for 0.6 s: colours of blocks, which it is for, err as much
JPEGXL_EFFORT = 3  # 0.2 s a megapixel; 1 takes 0.03 s and 18 % more bytes, 4 saves nothing
MAGIC, VERSION = b"WSIJ", 1
QUALITIES = 10, 60  # between which a quality is sought that keeps to a rate
LIKELY, RISE = 28, 0.04  # where that search begins; growth of the logarithm of bytes with quality
LARGEST = 65535  # pixels a side of one picture
CRC = struct.Struct("<I")
SIZE = struct.Struct("<HH")
HEAD = struct.Struct("<4sBBBB")


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """How a picture is coded; the configuration of the zarr codec `wsicodec.image`."""

    codec: str
    quality: int | None = None  # 0..100, the codec's own scale; None: lossless
    tile: tuple[int, int] | None = None  # height, width of a source tile in pixels
    tables: bytes = b""  # JPEG tables that the source's tiles share
    colourspace: str = ""  # of the source's JPEG streams

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigError(f"expected image codec {', '.join(CODECS)}, got {self.codec!r}")
        if self.quality is not None and not 0 <= self.quality <= 100:
            raise ConfigError(f"expected image quality 0 to 100, got {self.quality}")
        if self.codec == "avif" and self.quality is None:
            raise ConfigError("expected a quality for avif; use jpegxl where nothing may be lost")
        if self.codec != "jpeg_tiles":
            return
        if self.tile is None or min(self.tile) < 1 or max(self.tile) > 4096:
            raise ConfigError(f"expected a tile of 1 to 4096 pixels a side, got {self.tile}")
        if self.colourspace not in COLOURSPACES:
            raise ConfigError(
                f"expected colourspace {', '.join(COLOURSPACES)}, got {self.colourspace!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy without the fields that do not apply; `from_json` is its inverse."""
        record: dict[str, Any] = {"codec": self.codec}
        if self.quality is not None:
            record["quality"] = self.quality
        if self.tile is not None:
            record["tile"] = list(self.tile)
            record["tables"] = base64.b64encode(self.tables).decode("ascii")
            record["colourspace"] = self.colourspace
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """Read a configuration; raises ConfigError on what is unknown unless it starts "x-"."""
        unknown = sorted(k for k in record if k not in KEYS and not k.startswith("x-"))
        if unknown:
            raise ConfigError(f"expected the keys {sorted(KEYS)} in an image codec, got {unknown}")
        try:
            tile, quality = record.get("tile"), record.get("quality")
            tables = base64.b64decode(str(record.get("tables", "")), validate=True)
            sides = None if tile is None else (int(tile[0]), int(tile[1]))
            level = None if quality is None else int(quality)
        except (TypeError, IndexError, ValueError) as error:
            raise ConfigError(f"an image codec's configuration is malformed: {error}") from error
        colourspace = str(record.get("colourspace", ""))
        return cls(str(record.get("codec")), level, sides, tables, colourspace)


LOSSLESS = ImageFormat("jpegxl")


def encode_image(rgb: NDArray[np.uint8], form: ImageFormat) -> bytes:
    """Code one picture.

    rgb: (h, w, 3) uint8, the part of a chunk that lies inside its level.
    form: anything but `jpeg_tiles`, whose payloads come out of `pack_tiles`.
    """
    if not 0 < min(rgb.shape[:2]) <= max(rgb.shape[:2]) <= LARGEST:
        raise ConfigError(f"expected a picture of 1 to {LARGEST} pixels a side, got {rgb.shape}")
    body = SIZE.pack(*rgb.shape[:2]) + _encode(np.ascontiguousarray(rgb), form)
    return CRC.pack(zlib.crc32(body)) + body


def decode_image(payload: bytes, form: ImageFormat, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode one picture.

    payload: what `encode_image` or `pack_tiles` gave.
    shape: height and width of the chunk.

    Returns RGB (h, w, 3) uint8 of `shape`; raises BitstreamError on damage or a picture that is
    larger than the chunk.
    """
    body = _checked(payload)
    if form.codec == "jpeg_tiles":
        return _decode_tiles(body, form, shape)
    height, width = SIZE.unpack_from(body) if len(body) > SIZE.size else (0, 0)
    if not (0 < height <= shape[0] and 0 < width <= shape[1]):
        raise BitstreamError(
            f"expected a picture of at most {shape[0]}x{shape[1]} pixels, got {height}x{width}; "
            "restore the chunk"
        )
    rgb = _decode(body[SIZE.size :], form, (height, width))
    if (height, width) == shape:
        return rgb
    beyond = ((0, shape[0] - height), (0, shape[1] - width), (0, 0))
    return np.pad(rgb, beyond, mode="edge")


def _decode(body: bytes, form: ImageFormat, shape: tuple[int, int]) -> NDArray[np.uint8]:
    read = imagecodecs.avif_decode if form.codec == "avif" else imagecodecs.jpegxl_decode
    out = np.empty((*shape, 3), np.uint8)  # given ahead, so that no header decides on a size
    try:
        read(body, numthreads=1, out=out)
    except (RuntimeError, ValueError) as error:
        raise BitstreamError(
            f"expected an {form.codec} picture of {shape[0]}x{shape[1]} RGB pixels, "
            f"got {len(body)} bytes that are not one ({error}); restore the chunk"
        ) from error
    return out


def pack_tiles(tiles: Sequence[Sequence[bytes]]) -> bytes:
    """Put source JPEG tiles, rows of equally many, into one payload; empty ones are white."""
    flat = [tile for row in tiles for tile in row]
    head = HEAD.pack(MAGIC, VERSION, len(tiles), len(tiles[0]), 0)
    body = b"".join((head, struct.pack(f"<{len(flat)}I", *map(len, flat)), *flat))
    return CRC.pack(zlib.crc32(body)) + body


def best_quality(rgb: NDArray[np.uint8], codec: str, most: float) -> int:
    """The best quality of QUALITIES in which a picture takes at most so many bytes, else the least.

    rgb: (h, w, 3) uint8.
    """
    (low, high), tried = QUALITIES, LIKELY
    while low < high:
        tried = min(max(tried, low + 1), high)
        size = len(encode_image(rgb, ImageFormat(codec, tried)))
        low, high = (tried, high) if size <= most else (low, tried - 1)
        tried += math.floor(math.log(most / size) / RISE)
    return low


def _checked(payload: bytes) -> bytes:
    if len(payload) <= CRC.size:
        raise BitstreamError(f"expected a picture, got {len(payload)} bytes; restore the chunk")
    body = payload[CRC.size :]
    if zlib.crc32(body) != CRC.unpack_from(payload)[0]:
        raise BitstreamError(
            f"expected a picture, got {len(payload)} bytes whose checksum does not fit; "
            "restore the chunk"
        )
    return body


def _encode(rgb: NDArray[np.uint8], form: ImageFormat) -> bytes:
    if form.codec == "avif":
        return bytes(
            imagecodecs.avif_encode(
                rgb,
                level=form.quality,
                speed=AVIF_SPEED,
                pixelformat=imagecodecs.AVIF.PIXEL_FORMAT.YUV444,
                numthreads=1,
            )
        )
    if form.codec == "jpegxl":
        rate: dict[str, Any] = {"lossless": True, "effort": JPEGXL_EFFORT}
        if form.quality is not None:
            rate = {"distance": _distance(form.quality)}
        return bytes(imagecodecs.jpegxl_encode(rgb, numthreads=1, **rate))
    raise ConfigError(
        "tiles of the source's own JPEG cannot be made from pixels; "
        "write this level anew with codec jpegxl"
    )


def _split_tiles(body: bytes, rows: int, columns: int) -> list[bytes]:
    start = HEAD.size + 4 * rows * columns
    if len(body) < start:
        raise BitstreamError(f"expected at least {start} bytes of JPEG tiles, got {len(body)}")
    magic, version, r, c, reserved = HEAD.unpack_from(body)
    if magic != MAGIC or version != VERSION or reserved:
        raise BitstreamError(
            f"expected JPEG tiles of version {VERSION}, got {magic!r} version {version}"
        )
    if (r, c) != (rows, columns):
        raise BitstreamError(f"expected {rows}x{columns} JPEG tiles, got {r}x{c}")
    lengths = struct.unpack_from(f"<{rows * columns}I", body, HEAD.size)
    if start + sum(lengths) != len(body):
        raise BitstreamError(
            f"expected {start + sum(lengths)} bytes of JPEG tiles, got {len(body)}"
        )
    ends = [start, *(start + n for n in accumulate(lengths))]
    return [body[a:b] for a, b in pairwise(ends)]


def _decode_tiles(body: bytes, form: ImageFormat, shape: tuple[int, int]) -> NDArray[np.uint8]:
    assert form.tile is not None
    height, width = form.tile
    if shape[0] % height or shape[1] % width:
        raise BitstreamError(f"expected chunks of whole {height}x{width} tiles, got {shape}")
    rows, columns = shape[0] // height, shape[1] // width
    out = np.full((*shape, 3), 255, np.uint8)
    for index, stream in enumerate(_split_tiles(body, rows, columns)):
        if stream:
            y, x = index // columns * height, index % columns * width
            out[y : y + height, x : x + width] = _decode_jpeg(stream, form)
    return out


def _decode_jpeg(stream: bytes, form: ImageFormat) -> NDArray[np.uint8]:
    try:
        tile = imagecodecs.jpeg8_decode(
            stream, tables=form.tables or None, colorspace=form.colourspace, outcolorspace="rgb"
        )
    except (RuntimeError, ValueError) as error:
        raise BitstreamError(f"a JPEG tile of the source does not decode: {error}") from error
    if tile.shape != (*(form.tile or ()), 3):
        raise BitstreamError(f"expected a JPEG tile of {form.tile}, got {tile.shape}")
    return np.asarray(tile, np.uint8)


def _distance(quality: int) -> float:
    """JPEG XL's distance for a quality of 0..100, as libjxl's own tools map it."""
    if quality >= 100:
        return 0.0
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25
