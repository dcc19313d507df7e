"""One embedding grid as bytes: the specification, then its reader and writer.

Format version 1. All integers little-endian. A bitstream is header, bitmap, payload; nothing else.

    offset  size  field
         0     4  magic, b"WSIE"
         4     1  format version, 1
         5     1  coding: bits 0-3 backend (0 range, 1 blosc2); bits 4-5 bitmap (0 all cells
                  valid, 1 none, 2 raw, 3 deflated); bits 6-7 zero
         6     2  gh, rows of the grid, at least 1
         8     2  gw, columns of the grid, at least 1
        10     2  d, values per vector, that of the tables
        12     2  k, symbols per vector, that of the tables
        14     8  first 8 bytes of the tables' fingerprint
        22     4  length of bitmap and payload together in bytes
        26     4  crc32 (zlib's) of bytes 0-25 and of everything after this field
        30        bitmap: raw, one bit per cell in row-major order, 1 is valid, first cell in the
                  highest bit, last byte filled with zeros; or the same as a zlib stream behind its
                  length as uint16; absent if all cells are valid or none
                  payload: of the valid cells' symbols; empty if no cell is valid
                      range   see `range_coder`
                      blosc2  a blosc2 chunk of the symbols (k, n) as int16, component by component

Limits: gh * gw <= 2**16, d <= 4096, k <= d, body <= 2**30 bytes. A decoder checks the header, then
the crc, then its tables' fingerprint, and only then allocates. It refuses whatever is not exactly
as above, unread bytes included. An encoder uses bitmap modes 0 and 1 where they apply and else
the shorter of 2 and 3. Cells that are not valid decode to zeros.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import EntropyModel
from wsicodec.coding.quantizer import MAX_WIDTH, EmbeddingTables, dequantize, quantize
from wsicodec.errors import BitstreamError, ConfigError

MAGIC = b"WSIE"
VERSION = 1
BACKENDS = ("range", "blosc2")
MAX_CELLS = 1 << 16
MAX_BODY = 1 << 30  # bytes
ALL_VALID, NONE_VALID, RAW, DEFLATED = range(4)
_HEADER = struct.Struct("<4sBBHHHH8sI")
_CRC = struct.Struct("<I")
_SIZE = _HEADER.size + _CRC.size


@dataclass(frozen=True, slots=True)
class Header:
    """What a bitstream says of itself; `read_header` has checked it."""

    backend: str  # "range" or "blosc2"
    bitmap: int  # ALL_VALID, NONE_VALID, RAW or DEFLATED
    shape: tuple[int, int]  # gh, gw
    width: int  # d, values per vector
    components: int  # k, symbols per vector
    tables: bytes  # first 8 bytes of the fingerprint
    body: int  # bytes after the header


def encode_grid(
    grid: NDArray[np.floating],
    valid: NDArray[np.bool_],
    tables: EmbeddingTables,
    backend: str = "range",
) -> bytes:
    """One bitstream of an embedding grid.

    grid: (gh, gw, d); values where `valid` is false are ignored
    valid: (gh, gw)
    backend: "range", or "blosc2" for readers without a range coder

    Raises ConfigError on shapes or values that the tables cannot code.
    """
    _check_input(grid, valid, tables, backend)
    mode, bitmap = _pack_bitmap(valid)
    payload = b""
    if mode != NONE_VALID:
        payload = _pack(quantize(grid[valid], tables), valid, tables.model, backend)
    head = _HEADER.pack(
        MAGIC,
        VERSION,
        BACKENDS.index(backend) | mode << 4,
        *valid.shape,
        tables.width,
        tables.components,
        bytes.fromhex(tables.fingerprint)[:8],
        len(bitmap) + len(payload),
    )
    crc = zlib.crc32(payload, zlib.crc32(bitmap, zlib.crc32(head)))
    return head + _CRC.pack(crc) + bitmap + payload


def decode_grid(
    data: bytes, tables: EmbeddingTables, max_shape: tuple[int, int] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Grid (gh, gw, d) and validity (gh, gw) of a bitstream, the same on every machine.

    max_shape: rows and columns that the caller is ready for

    Raises BitstreamError if the data is damaged, larger, or needs other tables.
    """
    header = read_header(data)
    if max_shape is not None and any(n > m for n, m in zip(header.shape, max_shape, strict=True)):
        raise BitstreamError(
            f"implausible size: expected a grid of at most {max_shape} cells, "
            f"got {header.shape}; restore the chunk from a good copy"
        )
    _check_tables(header, tables)
    valid, payload = _unpack_bitmap(header, data[_SIZE:])
    grid = np.zeros((*header.shape, header.width), np.float32)
    if header.bitmap == NONE_VALID:
        if payload:
            raise _damaged(f"a blank grid carries a payload of {len(payload)} bytes")
        return grid, valid
    grid[valid] = dequantize(_unpack(payload, valid, tables.model, header.backend), tables)
    return grid, valid


def read_header(data: bytes) -> Header:
    """Check a whole bitstream, its crc included, and return what it says of itself.

    Allocates nothing that depends on the data; raises BitstreamError on the first rule broken.
    """
    if len(data) < _SIZE:
        raise _damaged(f"truncated header: expected {_SIZE} bytes, got {len(data)}")
    magic, version, coding, gh, gw, d, k, prefix, body = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BitstreamError(
            f"bad magic: expected {MAGIC!r}, got {magic!r}; this is not a wsicodec embedding grid"
        )
    if version != VERSION:
        raise BitstreamError(
            f"expected format version {VERSION}, got {version}; "
            "read it with a later version of wsicodec"
        )
    if body > MAX_BODY or not (0 < gh * gw <= MAX_CELLS and 0 < k <= d <= MAX_WIDTH):
        raise _damaged(f"implausible size: gh={gh}, gw={gw}, d={d}, k={k}, body={body}")
    if len(data) != _SIZE + body:
        what = "truncated" if len(data) < _SIZE + body else "trailing bytes"
        raise _damaged(f"{what}: expected {_SIZE + body} bytes, got {len(data)}")
    (stored,) = _CRC.unpack_from(data, _HEADER.size)
    crc = zlib.crc32(memoryview(data)[_SIZE:], zlib.crc32(data[: _HEADER.size]))
    if crc != stored:
        raise _damaged(f"crc mismatch: expected {stored:08x}, got {crc:08x}")
    if coding & 15 >= len(BACKENDS) or coding >> 6:
        raise _damaged(f"unknown coding {coding:#04x}")
    return Header(BACKENDS[coding & 15], coding >> 4, (gh, gw), d, k, prefix, body)


def _check_input(
    grid: NDArray[np.floating], valid: NDArray[np.bool_], tables: EmbeddingTables, backend: str
) -> None:
    if backend not in BACKENDS:
        raise ConfigError(f"expected backend {' or '.join(BACKENDS)}, got {backend!r}")
    if grid.ndim != 3 or grid.shape[:2] != valid.shape or grid.shape[2] != tables.width:
        raise ConfigError(
            f"expected a grid (gh, gw, {tables.width}) and validity (gh, gw), "
            f"got {grid.shape} and {valid.shape}; use the bundle whose embedder made them"
        )
    gh, gw = valid.shape
    if not 0 < gh * gw <= MAX_CELLS or max(gh, gw) > 0xFFFF:
        raise ConfigError(
            f"expected a grid of 1 to {MAX_CELLS} cells, got {gh} x {gw}; use smaller chunks"
        )


def _check_tables(header: Header, tables: EmbeddingTables) -> None:
    mine = bytes.fromhex(tables.fingerprint)[:8]
    if header.tables != mine:
        raise BitstreamError(
            f"tables mismatch: the payload needs codec tables {header.tables.hex()}..., got "
            f"{mine.hex()}...; open it with the bundle that the store names"
        )
    if (header.width, header.components) != (tables.width, tables.components):
        raise _damaged(
            f"expected d={tables.width} and k={tables.components} as in the tables, "
            f"got d={header.width} and k={header.components}"
        )


def _pack_bitmap(valid: NDArray[np.bool_]) -> tuple[int, bytes]:
    if valid.all():
        return ALL_VALID, b""
    if not valid.any():
        return NONE_VALID, b""
    raw = np.packbits(valid).tobytes()
    deflated = zlib.compress(raw, 9)
    if len(deflated) + 2 < len(raw):
        return DEFLATED, len(deflated).to_bytes(2, "little") + deflated
    return RAW, raw


def _unpack_bitmap(header: Header, body: bytes) -> tuple[NDArray[np.bool_], bytes]:
    """Validity (gh, gw) and the payload behind it."""
    if header.bitmap in (ALL_VALID, NONE_VALID):
        return np.full(header.shape, header.bitmap == ALL_VALID), body
    cells = header.shape[0] * header.shape[1]
    size = -(-cells // 8)
    raw, payload = body[:size], body[size:]
    if header.bitmap == DEFLATED:
        end = 2 + int.from_bytes(body[:2], "little")
        raw, payload = _inflate(body[2:end], size), body[end:]
    if len(raw) != size:
        raise _damaged(f"expected a bitmap of {size} bytes, got {len(raw)}")
    bits = np.unpackbits(np.frombuffer(raw, np.uint8)).astype(bool)
    valid = bits[:cells].reshape(header.shape)
    if bits[cells:].any() or not valid.any():
        raise _damaged("the bitmap has bits that no encoder sets")
    return valid, payload


def _inflate(data: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise _damaged(f"the bitmap does not inflate ({error})") from error
    if not inflater.eof or inflater.unused_data:
        raise _damaged("the bitmap's zlib stream does not end where it should")
    return raw


def _pack(
    symbols: NDArray[np.int32], valid: NDArray[np.bool_], model: EntropyModel, backend: str
) -> bytes:
    # Each backend is imported where it is used: a reader may lack one of the two libraries.
    if backend == "range":
        from wsicodec.coding.range_coder import entropy_encode

        return entropy_encode(symbols, valid, model)
    from wsicodec.coding.blosc2_payload import pack_symbols

    return pack_symbols(symbols)


def _unpack(
    payload: bytes, valid: NDArray[np.bool_], model: EntropyModel, backend: str
) -> NDArray[np.int32]:
    if backend == "range":
        from wsicodec.coding.range_coder import entropy_decode

        return entropy_decode(payload, valid, model)
    from wsicodec.coding.blosc2_payload import unpack_symbols

    return unpack_symbols(payload, int(valid.sum()), model.components)


def _damaged(reason: str) -> BitstreamError:
    return BitstreamError(f"{reason}; restore the chunk from a good copy")
