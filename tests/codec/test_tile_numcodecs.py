from pathlib import Path

import numcodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.codec.tile_numcodecs import TileCodec
from wsicodec.errors import BitstreamError, ConfigError
from wsicodec.geometry import Region
from wsicodec.slide import open_slide


@pytest.fixture(scope="session")
def chunk(drawn_slide: Path) -> NDArray[np.uint8]:
    """A piece of tissue whose sides are no multiple of anything."""
    with open_slide(drawn_slide) as slide:
        return slide.read(Region(300, 300, 300 + 500, 300 + 590))


@pytest.fixture(scope="session")
def payload(chunk: NDArray[np.uint8]) -> bytes:
    return TileCodec().encode(chunk)


def test_a_chunk_goes_in_and_one_like_it_comes_out(
    chunk: NDArray[np.uint8], payload: bytes
) -> None:
    codec = numcodecs.get_codec({"id": "wsicodec_tile"})
    shown = codec.decode(payload)
    assert len(payload) < chunk.nbytes / 100
    assert shown.shape == chunk.shape
    assert np.square(shown.astype(float) - chunk).mean() < 0.6 * chunk.astype(float).var() + 200
    np.testing.assert_array_equal(codec.decode(payload), shown)
    out = np.empty(chunk.shape, np.uint8)
    codec.decode(payload, out=out)
    np.testing.assert_array_equal(out, shown)


def test_glass_costs_next_to_nothing() -> None:
    glass = np.full((512, 512, 3), 245, np.uint8)
    codec = TileCodec()
    data = codec.encode(glass)
    assert len(data) < 600
    assert np.abs(codec.decode(data).astype(int) - 245).max() <= 2


def test_its_configuration_is_enough_to_decode(payload: bytes) -> None:
    codec = TileCodec(mpp=0.4)
    again = numcodecs.get_codec(codec.get_config())
    assert again == codec
    assert again.decode(payload).dtype == np.uint8


def test_it_serves_zarr_2(chunk: NDArray[np.uint8], tmp_path: Path) -> None:
    import zarr

    array = zarr.create_array(
        tmp_path / "v2.zarr",
        shape=chunk.shape,
        chunks=chunk.shape,
        dtype="uint8",
        zarr_format=2,
        compressors=TileCodec(),
        filters=None,
    )
    array[...] = chunk
    shown = np.asarray(zarr.open_array(tmp_path / "v2.zarr", mode="r")[...])
    np.testing.assert_array_equal(shown, TileCodec().decode(TileCodec().encode(chunk)))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((8, 8), np.uint8), ((8, 8, 4), np.uint8), ((8, 8, 3), np.float32)]
)
def test_what_is_not_rgb_is_refused(shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ConfigError, match="uint8"):
        TileCodec().encode(np.zeros(shape, dtype))


def test_damage_is_found(payload: bytes) -> None:
    codec = TileCodec()
    for cut in (0, 3, 20, len(payload) - 1):
        with pytest.raises(BitstreamError):
            codec.decode(payload[:cut])
    for at in range(0, len(payload), max(1, len(payload) // 60)):
        hurt = bytearray(payload)
        hurt[at] ^= 0x10
        with pytest.raises(BitstreamError):
            codec.decode(bytes(hurt))
    with pytest.raises(BitstreamError, match="added to"):
        codec.decode(payload + b"x")
