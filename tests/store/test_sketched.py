"""Stores of embeddings alone say what computes their sketch, and hold none."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import wsicodec
from tests.store import kit
from tests.store.conftest import Encode
from wsicodec.codec.state import state
from wsicodec.config import StoreInfo
from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle, find_bundle, load_bundle
from wsicodec.models.sketch import need_sketch

PICTURE = kit.tissue_picture(700, 900)


@pytest.fixture
def sketching(fake_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle whose embedder measures stains."""
    return load_bundle(kit.with_stains(fake_bundle, tmp_path / "b"))


def info_of(store: Path) -> StoreInfo:
    return StoreInfo.from_json(zarr.open_group(store, mode="r").attrs["wsicodec"])


def encode_with(bundle: Bundle, dst: Path, **options: Any) -> StoreInfo:
    from wsicodec.slide.opening import open_slide
    from wsicodec.store.writer import encode_slide

    with open_slide(PICTURE, mpp=0.5) as slide:
        encode_slide(slide, dst, bundle, kit.embed, **options)
    return info_of(dst)


def test_a_store_of_embeddings_alone_names_its_sketch(sketching: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    info = encode_with(sketching, path, preset="semantic")
    assert info.sketch == {5: need_sketch(sketching).digest}
    assert info.pictures == info.measured == {}
    assert {p.name for p in path.iterdir() if p.is_dir()} == {
        *map(str, range(8)),
        "cyx",
        "embeddings",
        "tissue",
    }
    assert wsicodec.check(path).ok
    assert wsicodec.info(path)["sketch"] == {"5": info.sketch[5]}
    shown = kit.read(path, "5").astype(int)
    assert np.abs(shown[2:-2, 2:12] - 200).max() <= 1, "the colour that it is told"
    export = wsicodec.decode(path, tmp_path / "s.tif", level=0)
    assert export.is_file()


def test_it_takes_stains_and_the_lack_of_a_picture(
    sketching: Bundle, encode: Encode, tmp_path: Path
) -> None:
    assert encode_with(sketching, tmp_path / "a.zarr", preset="standard").sketch == {}
    before = state().drawn.get(7, 0)
    encode(PICTURE, tmp_path / "b.zarr", preset="semantic")
    assert info_of(tmp_path / "b.zarr").sketch == {}
    assert state().drawn[7] > before, "without one the top is drawn from noise, as ever"


def test_a_reader_without_the_stains_refuses(
    sketching: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.zarr"
    encode_with(sketching, path, preset="semantic")
    monkeypatch.setattr("wsicodec.codec.state._state", None)
    monkeypatch.delitem(find_bundle(sketching.fingerprint).config["embedder"], "statistics")
    with pytest.raises(BundleError, match="another or none"):
        kit.read(path, "5")
    assert any("another or none" in finding for finding in wsicodec.check(path).findings)
