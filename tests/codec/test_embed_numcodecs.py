import json
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numcodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.codec.embed_numcodecs import EmbedCodec
from wsicodec.coding import EmbeddingTables, decode_grid, dequantize, fit_tables, quantize
from wsicodec.errors import BitstreamError, BundleError, ConfigError

BUNDLE = "5a" * 32


@pytest.fixture(scope="module")
def tables() -> EmbeddingTables:
    return fit_tables(np.random.default_rng(0).normal(0.2, 1, size=(300, 12)), step=0.7)


@pytest.fixture
def grid() -> NDArray[np.float32]:
    """A grid (5, 6, 12) with blank cells."""
    rng = np.random.default_rng(1)
    values = rng.normal(0.2, 1, size=(5, 6, 12)) * (rng.random((5, 6, 1)) < 0.7)
    return np.asarray(values, np.float32)


@pytest.fixture(autouse=True)
def _bundle(tables: EmbeddingTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bundle that holds the tables, in place of those on disk."""

    def embedding_tables(fingerprint: str) -> EmbeddingTables:
        if fingerprint != BUNDLE:
            raise BundleError(f"expected a bundle {fingerprint}")
        return tables

    monkeypatch.setattr("wsicodec.codec.tables.embedding_tables", embedding_tables)


@pytest.mark.parametrize("backend", ["range", "blosc2"])
def test_round_trip(grid: NDArray[np.float32], tables: EmbeddingTables, backend: str) -> None:
    codec = EmbedCodec(BUNDLE, backend)
    decoded = codec.decode(codec.encode(grid))
    valid = grid.any(axis=2)
    np.testing.assert_array_equal(decoded[valid], dequantize(quantize(grid[valid], tables), tables))
    assert not decoded[~valid].any()
    assert decoded.dtype == np.float32


@pytest.mark.parametrize(
    "same",
    [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a.astype(np.float64)],
    ids=["fortran", "strided", "float64"],
)
def test_layout_and_type_of_the_input_do_not_matter(
    grid: NDArray[np.float32], same: Callable[[Any], Any]
) -> None:
    codec = EmbedCodec(BUNDLE)
    assert codec.encode(same(grid)) == codec.encode(grid)


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, "u1")])
def test_any_buffer_decodes(grid: NDArray[np.float32], buffer: Callable[[bytes], Any]) -> None:
    codec = EmbedCodec(BUNDLE)
    data = codec.encode(grid)
    np.testing.assert_array_equal(codec.decode(buffer(data)), codec.decode(data))


def test_decoding_into_an_array(grid: NDArray[np.float32]) -> None:
    codec = EmbedCodec(BUNDLE)
    data, out = codec.encode(grid), np.full_like(grid, np.nan)
    assert codec.decode(data, out=out) is out
    np.testing.assert_array_equal(out, codec.decode(data))


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((5, 6, 12)), ConfigError, "expected out to be a float32 array"),
        (np.zeros((5, 72), np.float32), ConfigError, "expected out to be a float32 array"),
        (bytearray(1440), ConfigError, "expected out to be a float32 array"),
        (np.zeros((5, 7, 12), np.float32), ConfigError, r"expected out of shape \(5, 6, 12\)"),
        (np.zeros((4, 6, 12), np.float32), BitstreamError, "implausible size"),
    ],
)
def test_an_unfit_output_is_refused(
    grid: NDArray[np.float32], out: object, error: type[Exception], message: str
) -> None:
    codec = EmbedCodec(BUNDLE)
    with pytest.raises(error, match=message):
        codec.decode(codec.encode(grid), out=out)


@pytest.mark.parametrize("shape", [(12,), (6, 12), (1, 5, 6, 12)])
def test_only_grids_are_coded(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected embeddings of shape \(gh, gw, d\)"):
        EmbedCodec(BUNDLE).encode(np.ones(shape, np.float32))


def test_the_configuration_travels_as_json() -> None:
    numcodecs.register_codec(EmbedCodec)
    codec = EmbedCodec(BUNDLE, "blosc2", **{"x-note": "kept"})
    config = json.loads(json.dumps(codec.get_config()))
    assert config == {
        "id": "wsicodec_embed",
        "fingerprint": BUNDLE,
        "backend": "blosc2",
        "x-note": "kept",
    }
    assert numcodecs.get_codec(config) == codec
    assert pickle.loads(pickle.dumps(codec)) == codec


def test_equality_and_printing_follow_the_configuration() -> None:
    codec = EmbedCodec(BUNDLE)
    assert codec == EmbedCodec(BUNDLE, "range")
    assert codec != EmbedCodec(BUNDLE, "blosc2")
    assert codec != EmbedCodec("00" * 32)
    assert codec != codec.get_config()
    assert repr(codec) == f"EmbedCodec(fingerprint='{BUNDLE}', backend='range')"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fingerprint": BUNDLE, "level": 3}, r"got also \['level'\]"),
        ({"fingerprint": BUNDLE[1:]}, "expected the bundle's fingerprint"),
        ({"fingerprint": BUNDLE.upper()}, "expected the bundle's fingerprint"),
        ({"fingerprint": 7}, "expected the bundle's fingerprint"),
        ({"fingerprint": BUNDLE, "backend": "zstd"}, "expected backend range or blosc2"),
        ({"backend": "range"}, "expected the key fingerprint"),
    ],
)
def test_unfit_configurations_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EmbedCodec.from_config(config)


def test_the_bundle_is_needed_only_to_code(grid: NDArray[np.float32]) -> None:
    codec = EmbedCodec("00" * 32)
    with pytest.raises(BundleError):
        codec.encode(grid)


def test_damage_is_noticed(grid: NDArray[np.float32]) -> None:
    codec = EmbedCodec(BUNDLE)
    data = bytearray(codec.encode(grid))
    data[40] ^= 4
    with pytest.raises(BitstreamError, match="crc mismatch"):
        codec.decode(bytes(data))


def test_the_codec_serves_arrays_of_zarr_format_2(
    grid: NDArray[np.float32], tables: EmbeddingTables
) -> None:
    import zarr

    codec = EmbedCodec(BUNDLE)
    array = zarr.create_array(
        store=zarr.storage.MemoryStore(),
        shape=grid.shape,
        chunks=(3, 4, 12),
        dtype="float32",
        zarr_format=2,
        compressors=codec,
        fill_value=0,
    )
    array[...] = grid
    read = array[...]
    expected, _ = decode_grid(codec.encode(grid), tables)
    np.testing.assert_array_equal(read, expected)


def test_importing_loads_neither_torch_nor_zarr() -> None:
    import subprocess

    code = (
        "import sys, wsicodec.codec.embed_numcodecs, wsicodec.coding;"
        "assert not {'torch', 'zarr', 'constriction', 'blosc2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
