"""Real pictures to bytes and back, and the zarr codec over them."""

import asyncio
import multiprocessing
from typing import Any

import imagecodecs
import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from wsicodec.codec.image_zarr import Image
from wsicodec.codec.offload import offload
from wsicodec.coding.images import (
    LOSSLESS,
    ImageFormat,
    decode_image,
    encode_image,
    pack_tiles,
)
from wsicodec.errors import BitstreamError, ConfigError

AVIF = ImageFormat("avif", quality=30)
JPEGXL = ImageFormat("jpegxl", quality=60)
TILES = ImageFormat("jpeg_tiles", tile=(16, 24), colourspace="ycbcr")
SHAPE = (32, 48)


def picture() -> NDArray[np.uint8]:
    ramp = np.linspace(40, 220, 48)[None, :, None] * np.array([1.0, 0.8, 0.9])
    return np.broadcast_to(ramp, (*SHAPE, 3)).astype(np.uint8)


def jpeg(rgb: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(rgb), level=95))


def tiles() -> bytes:
    rgb = picture()
    rows = [[jpeg(rgb[y : y + 16, x : x + 24]) for x in (0, 24)] for y in (0, 16)]
    rows[1][1] = b""
    return pack_tiles(rows)


def payload(form: ImageFormat) -> bytes:
    return tiles() if form is TILES else encode_image(picture(), form)


@pytest.mark.parametrize("form", [AVIF, JPEGXL], ids=lambda f: f.codec)
def test_lossy_pictures_come_back_nearly(form: ImageFormat) -> None:
    decoded = decode_image(encode_image(picture(), form), form, SHAPE)
    assert np.abs(decoded.astype(int) - picture()).mean() < 4


def test_lossless_pictures_come_back_exactly(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(encode_image(rgb, LOSSLESS), LOSSLESS, SHAPE), rgb)


def test_source_tiles_stand_where_they_stood_and_absent_ones_are_white() -> None:
    decoded = decode_image(tiles(), TILES, SHAPE)
    assert (decoded[16:, 24:] == 255).all()
    assert np.abs(decoded[:16].astype(int) - picture()[:16]).mean() < 4


@pytest.mark.parametrize("form", [AVIF, JPEGXL, LOSSLESS, TILES], ids=lambda f: f.codec)
def test_damage_and_other_shapes_are_refused(form: ImageFormat) -> None:
    good = payload(form)
    decode_image(good, form, SHAPE)
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 0x55]) + good[middle + 1 :]
    for bad in (b"", good[:3], good[:middle], flipped, good + b"\0", b"\0" * 64):
        with pytest.raises(BitstreamError):
            decode_image(bad, form, SHAPE)
    for shape in ((16, 48), (32, 24)):
        with pytest.raises(BitstreamError):
            decode_image(good, form, shape)


@pytest.mark.parametrize("form", [AVIF, JPEGXL, LOSSLESS], ids=lambda f: f.codec)
def test_a_picture_that_the_border_cuts_is_filled_up_with_its_last_pixels(
    form: ImageFormat,
) -> None:
    good = payload(form)
    filled = decode_image(good, form, (40, 64))
    np.testing.assert_array_equal(filled[:32, :48], decode_image(good, form, SHAPE))
    assert (filled[32:] == filled[31:32]).all()
    assert (filled[:, 48:] == filled[:, 47:48]).all()


def test_source_tiles_fill_their_chunk() -> None:
    with pytest.raises(BitstreamError, match="tiles"):
        decode_image(tiles(), TILES, (64, 48))


def test_pixels_do_not_become_source_tiles() -> None:
    with pytest.raises(ConfigError, match="jpegxl"):
        encode_image(picture(), TILES)


@pytest.mark.parametrize("form", [AVIF, JPEGXL, LOSSLESS, TILES], ids=lambda f: f.codec)
def test_a_configuration_reads_back(form: ImageFormat) -> None:
    assert ImageFormat.from_json(form.to_json()) == form
    assert ImageFormat.from_json({**form.to_json(), "x-note": 1}) == form


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"codec": "png"},
        {"codec": "avif"},
        {"codec": "avif", "quality": 101},
        {"codec": "avif", "quality": "high"},
        {"codec": "jpegxl", "effort": 3},
        {"codec": "jpeg_tiles"},
        {"codec": "jpeg_tiles", "tile": [16], "colourspace": "rgb"},
        {"codec": "jpeg_tiles", "tile": [16, 0], "colourspace": "rgb"},
        {"codec": "jpeg_tiles", "tile": [16, 16], "colourspace": "cmyk"},
        {"codec": "jpeg_tiles", "tile": [16, 16], "colourspace": "rgb", "tables": "?"},
    ],
    ids=str,
)
def test_a_bad_configuration_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ImageFormat.from_json(record)


def test_zarr_writes_and_reads_through_it() -> None:
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(
        store,
        shape=(50, 70, 3),
        chunks=(32, 48, 3),
        dtype="uint8",
        serializer=Image(LOSSLESS),
        compressors=None,
        filters=None,
    )
    rgb = np.arange(50 * 70 * 3, dtype=np.uint32).astype(np.uint8).reshape(50, 70, 3)
    array[...] = rgb
    np.testing.assert_array_equal(array[...], rgb)
    key = "c/0/0/0"
    sync(store.set(key, zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(b"bad")))
    with pytest.raises(BitstreamError):
        array[:4, :4]


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8), "uint8"), ((8, 8, 3), "uint16")])
def test_an_array_of_another_kind_is_refused(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(ConfigError, match="uint8"):
        zarr.create_array(
            zarr.storage.MemoryStore(),
            shape=shape,
            chunks=shape,
            dtype=dtype,
            serializer=Image(LOSSLESS),
            compressors=None,
        )


def _in_child(queue: Any) -> None:
    queue.put(asyncio.run(offload(sum, [3, 4])))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_a_pool_of_its_own() -> None:
    assert asyncio.run(offload(sum, [1, 2])) == 3
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=30) == 7
    child.join(30)
    assert child.exitcode == 0
