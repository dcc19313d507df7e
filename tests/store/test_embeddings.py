"""The embeddings' codec as zarr 3 and as numcodecs know it."""

from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from tests.store import kit
from wsicodec.codec.embed_numcodecs import EmbedCodec
from wsicodec.codec.embed_zarr import Embed
from wsicodec.errors import BitstreamError, ConfigError
from wsicodec.models.bundle import Bundle
from wsicodec.store.publish import read_object


def write(bundle: Bundle, backend: str) -> tuple[MemoryStore, "zarr.Array[Any]", Any]:
    store = MemoryStore()
    array = zarr.create_array(
        store,
        shape=(8, 6, kit.WIDTH),
        chunks=(4, 6, kit.WIDTH),
        dtype="float32",
        serializer=Embed(bundle.fingerprint, backend),
        compressors=None,
    )
    grid = np.random.default_rng(1).normal(size=array.shape).astype(np.float32)
    grid[1, 2] = 0
    array[...] = grid
    return store, array, grid


@pytest.mark.parametrize("backend", ["range", "blosc2"])
def test_zarr_and_numcodecs_write_the_same_bytes(fake_bundle: Bundle, backend: str) -> None:
    store, array, grid = write(fake_bundle, backend)
    codec = EmbedCodec(fake_bundle.fingerprint, backend)
    for i in range(2):
        assert read_object(store, f"c/{i}/0/0") == codec.encode(grid[4 * i : 4 * i + 4])
    decoded = np.asarray(array[...])
    np.testing.assert_array_equal(decoded[4:], codec.decode(codec.encode(grid[4:])))
    assert not decoded[1, 2].any()


def test_damage_and_chunks_of_another_shape_are_refused(fake_bundle: Bundle) -> None:
    store, array, grid = write(fake_bundle, "range")
    other = EmbedCodec(fake_bundle.fingerprint).encode(grid[:3])
    for payload in (b"", b"bad", other):
        buffer = default_buffer_prototype().buffer.from_bytes(payload)
        sync(store.set("c/0/0/0", buffer))
        with pytest.raises(BitstreamError):
            array[0, 0]


@pytest.mark.parametrize(
    "settings", [{}, {"fingerprint": 7}, {"fingerprint": "ab", "level": 3}], ids=str
)
def test_a_bad_configuration_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Embed.from_dict({"name": "wsicodec.embed", "configuration": settings})


def test_a_configuration_reads_back() -> None:
    codec = Embed("ab" * 32, "blosc2")
    assert Embed.from_dict(codec.to_dict()) == codec
