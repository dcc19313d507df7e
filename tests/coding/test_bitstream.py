import struct
import tracemalloc
import zlib
from dataclasses import replace

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from wsicodec.coding import (
    EmbeddingTables,
    Header,
    decode_grid,
    dequantize,
    encode_grid,
    quantize,
    read_header,
)
from wsicodec.errors import BitstreamError, ConfigError

Grid = NDArray[np.float32]
Mask = NDArray[np.bool_]


def reseal(data: bytes, **fields: int | bytes) -> bytes:
    """The bitstream with header fields replaced and its crc made right again."""
    names = ("magic", "version", "coding", "gh", "gw", "d", "k", "tables", "body")
    layout = struct.Struct("<4sBBHHHH8sI")
    values = dict(zip(names, layout.unpack_from(data), strict=True)) | fields
    head, rest = layout.pack(*values.values()), data[30:]
    return head + struct.pack("<I", zlib.crc32(rest, zlib.crc32(head))) + rest


@pytest.fixture
def payload(grid: Grid, valid: Mask, tables: EmbeddingTables) -> bytes:
    return encode_grid(grid, valid, tables)


@pytest.mark.parametrize("backend", ["range", "blosc2"])
def test_round_trip(grid: Grid, valid: Mask, tables: EmbeddingTables, backend: str) -> None:
    decoded, mask = decode_grid(encode_grid(grid, valid, tables, backend), tables)
    np.testing.assert_array_equal(mask, valid)
    np.testing.assert_array_equal(decoded[valid], dequantize(quantize(grid[valid], tables), tables))
    assert not decoded[~valid].any()
    assert decoded.dtype == np.float32


@given(
    mask=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=12)),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.1, 1.0, 30.0, 3000.0]),
    backend=st.sampled_from(["range", "blosc2"]),
)
def test_any_grid_round_trips(
    tables: EmbeddingTables, mask: Mask, seed: int, scale: float, backend: str
) -> None:
    rng = np.random.default_rng(seed)
    grid = np.asarray(rng.normal(scale=scale, size=(*mask.shape, tables.width)), np.float32)
    decoded, valid = decode_grid(encode_grid(grid, mask, tables, backend), tables)
    np.testing.assert_array_equal(valid, mask)
    np.testing.assert_array_equal(decoded[mask], dequantize(quantize(grid[mask], tables), tables))


def test_what_is_not_valid_costs_nothing(grid: Grid, valid: Mask, tables: EmbeddingTables) -> None:
    noisy = np.where(valid[..., None], grid, np.float32(np.nan))
    assert encode_grid(noisy, valid, tables) == encode_grid(grid, valid, tables)


def test_a_blank_grid_is_a_bare_header(tables: EmbeddingTables) -> None:
    blank = np.zeros((32, 32), bool)
    data = encode_grid(np.zeros((32, 32, tables.width), np.float32), blank, tables)
    assert len(data) == 30
    decoded, valid = decode_grid(data, tables)
    assert decoded.shape == (32, 32, tables.width)
    assert not decoded.any()
    assert not valid.any()


def test_validity_of_one_block_is_deflated(tables: EmbeddingTables) -> None:
    valid = np.zeros((64, 64), bool)
    valid[8:40, 16:48] = True
    grid = np.ones((64, 64, tables.width), np.float32)
    data = encode_grid(grid, valid, tables)
    assert read_header(data).bitmap == 3
    np.testing.assert_array_equal(decode_grid(data, tables)[1], valid)


def test_the_header_says_what_was_encoded(payload: bytes, tables: EmbeddingTables) -> None:
    assert read_header(payload) == Header(
        backend="range",
        bitmap=2,
        shape=(9, 7),
        width=24,
        components=tables.components,
        tables=bytes.fromhex(tables.fingerprint)[:8],
        body=len(payload) - 30,
    )


def test_every_flipped_bit_is_noticed(payload: bytes, tables: EmbeddingTables) -> None:
    for position in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            decode_grid(bytes(damaged), tables)


def test_every_truncation_is_noticed(payload: bytes, tables: EmbeddingTables) -> None:
    for length in range(len(payload)):
        with pytest.raises(BitstreamError, match="truncated"):
            decode_grid(payload[:length], tables)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magic": b"RIFF"}, "bad magic"),
        ({"version": 2}, "expected format version 1, got 2"),
        ({"gh": 0}, "implausible size"),
        ({"gh": 65535, "gw": 65535}, "implausible size"),
        ({"d": 65535}, "implausible size"),
        ({"k": 0}, "implausible size"),
        ({"k": 25}, "implausible size"),
        ({"body": 2**31}, "implausible size"),
        ({"coding": 0x22}, "unknown coding"),
        ({"coding": 0x60}, "unknown coding"),
        (
            {"tables": b"otherone"},
            "tables mismatch: .* needs codec tables 6f746865726f6e65",
        ),
        ({"d": 25}, "as in the tables"),
        ({"coding": 0x10}, "a blank grid carries"),
        ({"gh": 10}, "bits that no encoder sets|does not decode|expected a payload"),
        ({"gh": 255, "gw": 255}, "expected a bitmap of"),
        ({"coding": 0x30}, "does not inflate|does not end"),
        ({"coding": 0x21}, "blosc2"),
    ],
)
def test_hostile_headers(
    payload: bytes, tables: EmbeddingTables, fields: dict[str, int | bytes], message: str
) -> None:
    with pytest.raises(BitstreamError, match=message):
        decode_grid(reseal(payload, **fields), tables)


def test_a_resealed_header_as_it_was_still_decodes(payload: bytes, tables: EmbeddingTables) -> None:
    assert reseal(payload) == payload
    decode_grid(payload, tables)


def test_trailing_bytes_are_refused(payload: bytes, tables: EmbeddingTables) -> None:
    with pytest.raises(BitstreamError, match="trailing bytes"):
        decode_grid(payload + b"\0", tables)


def test_a_damaged_crc_is_named(payload: bytes, tables: EmbeddingTables) -> None:
    with pytest.raises(BitstreamError, match="crc mismatch"):
        decode_grid(payload[:-1] + bytes([payload[-1] ^ 1]), tables)


def test_other_tables_are_refused(payload: bytes, other_tables: EmbeddingTables) -> None:
    with pytest.raises(BitstreamError, match="tables mismatch"):
        decode_grid(payload, other_tables)


def test_a_grid_larger_than_expected_is_refused(payload: bytes, tables: EmbeddingTables) -> None:
    decode_grid(payload, tables, (9, 7))
    with pytest.raises(BitstreamError, match="implausible size"):
        decode_grid(payload, tables, (9, 6))


def test_nothing_large_is_allocated_for_a_hostile_header(
    payload: bytes, tables: EmbeddingTables
) -> None:
    hostile = reseal(payload, gh=65535, gw=65535)
    decode_grid(payload, tables)
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError):
            decode_grid(hostile, tables)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_bitmap_bomb_is_not_inflated(payload: bytes, tables: EmbeddingTables) -> None:
    bomb = zlib.compress(bytes(10_000_000), 9)
    body = len(bomb).to_bytes(2, "little") + bomb
    data = reseal(payload[:30] + body, coding=0x30, body=len(body))
    with pytest.raises(BitstreamError, match="does not end"):
        decode_grid(data, tables)


def test_symbols_too_large_for_blosc2_are_refused(
    grid: Grid, valid: Mask, tables: EmbeddingTables
) -> None:
    with pytest.raises(ConfigError, match="expected symbols within int16"):
        encode_grid(grid * 30_000, valid, replace(tables), "blosc2")


@pytest.mark.parametrize(
    ("shape", "mask", "backend", "message"),
    [
        ((2, 3, 24), (2, 3), "zstd", "expected backend range or blosc2"),
        ((2, 3, 24), (3, 2), "range", "expected a grid"),
        ((2, 3, 23), (2, 3), "range", "expected a grid"),
        ((2, 24), (2, 24), "range", "expected a grid"),
        ((0, 3, 24), (0, 3), "range", "expected a grid of 1 to 65536 cells"),
    ],
)
def test_what_cannot_be_encoded(
    tables: EmbeddingTables,
    shape: tuple[int, ...],
    mask: tuple[int, ...],
    backend: str,
    message: str,
) -> None:
    with pytest.raises(ConfigError, match=message):
        encode_grid(np.ones(shape, np.float32), np.ones(mask, bool), tables, backend)
