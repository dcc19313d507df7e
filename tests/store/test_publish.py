"""Stores in folders, zips, zarr store objects and URLs."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import MemoryStore, ZipStore

from tests.store import kit
from wsicodec.config import DrawOptions
from wsicodec.errors import GeneratedPixelsError, StoreError, StoreExistsError
from wsicodec.store.check import check_store
from wsicodec.store.describe import describe
from wsicodec.store.publish import list_objects, open_store, reading
from wsicodec.store.report import EncodeReport

Encode = Callable[..., EncodeReport]
RGB = kit.tissue_picture(600, 520)


def test_a_zip_holds_the_same_objects_uncompressed(encode: Encode, tmp_path: Path) -> None:
    report = encode(RGB, tmp_path / "s.zip")
    encode(RGB, tmp_path / "s.zarr")
    with zipfile.ZipFile(tmp_path / "s.zip") as packed:
        assert {i.compress_type for i in packed.infolist()} == {zipfile.ZIP_STORED}
        for name in packed.namelist():
            assert packed.read(name) == (tmp_path / "s.zarr" / name).read_bytes()
    assert report.bytes == (tmp_path / "s.zip").stat().st_size
    assert describe(tmp_path / "s.zip")["bytes"] == report.bytes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["s.zarr", "s.zip"]
    with ZipStore(tmp_path / "s.zip", mode="r") as store:
        np.testing.assert_array_equal(kit.read(store, "0"), kit.read(tmp_path / "s.zarr", "0"))
    with pytest.raises(StoreExistsError):
        encode(RGB, tmp_path / "s.zip")


def test_the_same_slide_makes_the_same_zip(encode: Encode, tmp_path: Path) -> None:
    digests = set()
    for name in ("a.zip", "b.zip"):
        encode(RGB, tmp_path / name)
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_a_store_object_is_filled_and_not_overwritten(encode: Encode) -> None:
    store = MemoryStore()
    encode(RGB, store)
    assert kit.read(store, "0").shape == (600, 520, 3)
    before = list_objects(store)
    with pytest.raises(StoreExistsError):
        encode(RGB, store)
    assert list_objects(store) == before
    encode(RGB[:300], store, overwrite=True)
    assert kit.read(store, "0").shape == (300, 520, 3)


def test_the_root_of_a_copy_comes_last(encode: Encode) -> None:
    class Watched(MemoryStore):
        async def set(self, key: str, value: object, byte_interval: object = None) -> None:
            keys.append(key)
            await super().set(key, value)  # type: ignore[arg-type]

    keys: list[str] = []
    encode(RGB, Watched())
    assert keys[-1] == "zarr.json"
    assert keys.count("zarr.json") == 1


def test_a_copy_that_was_cut_off_does_not_open_and_may_be_replaced(encode: Encode) -> None:
    class Failing(MemoryStore):
        left = 10

        async def set(self, key: str, value: object, byte_interval: object = None) -> None:
            self.left -= 1
            if self.left < 0:
                raise OSError("connection lost")
            await super().set(key, value)  # type: ignore[arg-type]

    store = Failing()
    with pytest.raises(OSError, match="connection lost"):
        encode(RGB, store)
    with pytest.raises(StoreError):
        open_store(store)
    store.left = 1000
    encode(RGB, store, overwrite=True)
    assert check_store(store).ok


def test_a_store_object_of_something_else_is_never_cleared(encode: Encode) -> None:
    store = MemoryStore()
    zarr.create_group(store, attributes={"thesis": 1})
    with pytest.raises(StoreExistsError, match="something else"):
        encode(RGB, store, overwrite=True)
    assert list_objects(store) == ["zarr.json"]


def test_a_url_is_written_and_read(encode: Encode) -> None:
    fsspec = pytest.importorskip("fsspec")
    url = "memory://wsicodec-test/slide.zarr"
    encode(RGB, url)
    try:
        assert describe(url)["shape"] == [600, 520]
        with pytest.raises(StoreExistsError):
            encode(RGB, url)
    finally:
        fsspec.filesystem("memory").rm("/wsicodec-test", recursive=True)


@pytest.mark.parametrize("name", ["s.zarr", "s.zip"])
def test_open_store_passes_on_how_to_draw(encode: Encode, tmp_path: Path, name: str) -> None:
    encode(RGB, tmp_path / name)
    level = open_store(tmp_path / name, DrawOptions(allow_generated=False))["0"]
    assert isinstance(level, zarr.Array)
    with pytest.raises(GeneratedPixelsError):
        level[:10, :10]
    drawn = open_store(str(tmp_path / name))["0"]
    assert isinstance(drawn, zarr.Array)
    assert np.asarray(drawn[:10, :10]).any()


def test_what_is_not_a_store_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name, expected in (
        ("file", "another file"),
        ("folder", "no zarr.json"),
        ("none", "does not exist"),
    ):
        with pytest.raises(StoreError, match=expected):
            open_store(tmp_path / name)


def test_a_store_is_opened_for_reading_only(encode: Encode, tmp_path: Path) -> None:
    encode(RGB, tmp_path / "s.zarr")
    with reading(tmp_path / "s.zarr") as store:
        assert store.read_only
    memory = MemoryStore()
    encode(RGB, memory)
    with reading(memory) as store:
        assert store.read_only
    assert not memory.read_only
