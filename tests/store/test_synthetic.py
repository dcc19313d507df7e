"""Stores of slides that never were: ordinary to open, flagged all over, equal for equal seeds."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import wsicodec
from tests.store import kit
from wsicodec.coding.quantizer import EmbeddingTables, quantize
from wsicodec.config import BLANK, GENERATED, MEASURED, SYNTHETIC_NOTICE, StoreInfo
from wsicodec.errors import (
    BundleError,
    ConfigError,
    GeneratedPixelsError,
    StoreError,
    StoreExistsError,
)
from wsicodec.models.bundle import Bundle, find_bundle, load_bundle
from wsicodec.store.synthetic import Novelty, write_synthetic

SHAPE = (1200, 9000)  # pixels; two chunks of embeddings


def tables(bundle: Bundle) -> EmbeddingTables:
    return EmbeddingTables.from_tensors(bundle.tensors("codec.safetensors"))


def novelty(bundle: Bundle, shape: tuple[int, int] = SHAPE) -> Novelty:
    rng = np.random.default_rng(1)
    grid = -(-shape[0] // 256), -(-shape[1] // 256)
    tissue = np.zeros(grid, bool)
    tissue[1:4, 2:6] = tissue[2, 30:34] = True
    count = int(tissue.sum()), tables(bundle).components
    sketch = rng.integers(100, 250, (8 * grid[0], 8 * grid[1], 3), np.uint8)
    return Novelty(shape, tissue, rng.integers(-4, 5, count, np.int32), sketch, {"seed": 1})


def tree(store: Path) -> dict[str, str]:
    return {
        p.relative_to(store).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in store.rglob("*")
        if p.is_file()
    }


@pytest.fixture
def path(fake_bundle: Bundle, tmp_path: Path) -> Path:
    write_synthetic(novelty(fake_bundle), tmp_path / "n.zarr", fake_bundle)
    return tmp_path / "n.zarr"


def test_it_holds_what_was_drawn(fake_bundle: Bundle, path: Path) -> None:
    drawn = novelty(fake_bundle)
    np.testing.assert_array_equal(
        kit.read(path, "tissue"), np.where(drawn.tissue, GENERATED, BLANK)
    )
    vectors = kit.read(path, "embeddings")
    np.testing.assert_array_equal(vectors.any(axis=2), drawn.tissue)
    kept = quantize(vectors[drawn.tissue], tables(fake_bundle))
    np.testing.assert_array_equal(kept, drawn.symbols)


def test_it_opens_and_checks_like_any_other(path: Path) -> None:
    assert wsicodec.check(path).ok
    group = zarr.open_group(path, mode="r")
    assert group["0"].shape == (*SHAPE, 3)  # type: ignore[union-attr]
    assert kit.read(path, "7").any()
    told = wsicodec.info(path)
    assert told["preset"] == "semantic"
    assert told["patches"] == {"blank": 5 * 36 - 16, "generated": 16, "measured": 0}
    assert told["bytes"] == sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def test_equal_slides_are_equal_to_the_byte(
    fake_bundle: Bundle, path: Path, tmp_path: Path
) -> None:
    write_synthetic(novelty(fake_bundle), tmp_path / "again.zarr", fake_bundle)
    assert tree(tmp_path / "again.zarr") == tree(path)


def test_its_root_and_every_array_say_what_it_is(path: Path) -> None:
    group = zarr.open_group(path, mode="r")
    info = StoreInfo.from_json(group.attrs["wsicodec"])
    assert info.synthetic
    assert info.notice == SYNTHETIC_NOTICE
    assert info.source["origin"] == {"seed": 1}
    ome: Any = group.attrs["ome"]
    assert ome["multiscales"][0]["name"] == "synthetic slide"
    documents = [p for p in path.rglob("zarr.json") if p.parent != path]
    assert len(documents) == 8 + 8 + 1 + 3
    for document in documents:
        assert json.loads(document.read_text())["attributes"]["synthetic"] is True, document


def test_the_sketch_is_what_coarse_levels_show(fake_bundle: Bundle, path: Path) -> None:
    drawn = novelty(fake_bundle)
    assert drawn.sketch_level == 5
    shown = kit.read(path, "5").astype(float)
    assert shown.shape == (38, 282, 3)
    # Coded by AVIF at quality 80; against it a sketch of another seed is 60 levels off.
    assert np.abs(shown - drawn.sketch[:38, :282]).mean() < 20
    info = StoreInfo.from_json(zarr.open_group(path, mode="r").attrs["wsicodec"])
    assert info.measured == {}
    assert info.pictures == {5: "sketch"}


def test_a_reader_that_refuses_generated_pixels_gets_not_even_its_glass(path: Path) -> None:
    strict = wsicodec.open(path, allow_generated=False)
    for level in range(8):
        height, width = strict[str(level)].shape[:2]  # type: ignore[union-attr]
        for y, x in {(0, 0), (height - 1, width - 1)}:
            with pytest.raises(GeneratedPixelsError, match="never existed"):
                strict[str(level)][y : y + 1, x : x + 1]  # type: ignore[index]
    lenient: Any = wsicodec.open(path)["0"]
    assert lenient[1199, 8999].any()


@pytest.mark.parametrize("sketch", [["5"], {"five": "sketch"}])
def test_a_malformed_sketch_is_a_store_error(path: Path, sketch: Any) -> None:
    record: Any = zarr.open_group(path, mode="r").attrs["wsicodec"]
    record["source"]["sketch"] = sketch
    with pytest.raises(StoreError, match="malformed"):
        StoreInfo.from_json(record)


def test_a_real_slide_is_not_synthetic(store: Path) -> None:
    info = StoreInfo.from_json(zarr.open_group(store, mode="r").attrs["wsicodec"])
    assert not info.synthetic
    tissue = kit.read(store, "tissue")
    assert MEASURED in tissue


def test_nothing_is_replaced_unasked(fake_bundle: Bundle, path: Path) -> None:
    with pytest.raises(StoreExistsError):
        write_synthetic(novelty(fake_bundle), path, fake_bundle)
    report = write_synthetic(novelty(fake_bundle), path, fake_bundle, overwrite=True)
    assert report.patches == 16
    assert report.fraction_tissue == pytest.approx(16 / 180)


def test_a_grid_of_another_size_is_refused(fake_bundle: Bundle, tmp_path: Path) -> None:
    drawn = novelty(fake_bundle)
    wrong = Novelty((9000, 1200), drawn.tissue, drawn.symbols, drawn.sketch, {})
    with pytest.raises(ConfigError, match=r"expected a grid of \(36, 5\) patches"):
        write_synthetic(wrong, tmp_path / "n.zarr", fake_bundle)


def test_the_model_does_not_change_what_a_bundle_is(fake_bundle: Bundle, tmp_path: Path) -> None:
    bundle = load_bundle(kit.with_edm(fake_bundle, tmp_path / "b"))
    assert bundle.fingerprint == fake_bundle.fingerprint
    assert "edm" in bundle.config
    assert "edm" not in find_bundle(fake_bundle.fingerprint).config


def test_a_slide_is_sampled_from_a_seed(fake_bundle: Bundle, tmp_path: Path) -> None:
    told = load_bundle(kit.with_stains(fake_bundle, tmp_path / "s"))
    bundle = kit.with_edm(told, tmp_path / "b")
    calls: list[tuple[int, int, str]] = []
    options: dict[str, Any] = {"size": (2000, 1500), "bundle": bundle}
    report = wsicodec.sample(
        tmp_path / "a.zarr", seed=3, progress=lambda *c: calls.append(c), **options
    )
    assert report.patches > 0
    assert calls[-1] == (1, 1, "octaves")
    wsicodec.sample(tmp_path / "b.zarr", seed=3, **options)
    wsicodec.sample(tmp_path / "c.zarr", seed=4, **options)
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr") != tree(tmp_path / "c.zarr")
    assert wsicodec.info(tmp_path / "a.zarr")["source"]["origin"]["seed"] == 3
    with pytest.raises(StoreExistsError):
        wsicodec.sample(tmp_path / "a.zarr", **options)


def test_a_bundle_without_the_model_cannot_sample(fake_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no edm"):
        wsicodec.sample(tmp_path / "a.zarr", bundle=fake_bundle.path)
    assert not (tmp_path / "a.zarr").exists()


def test_a_bundle_that_tells_no_colours_cannot_sample(fake_bundle: Bundle, tmp_path: Path) -> None:
    bundle = kit.with_edm(fake_bundle, tmp_path / "b")
    with pytest.raises(BundleError, match="measures stains"):
        wsicodec.sample(tmp_path / "a.zarr", bundle=bundle)
    assert not (tmp_path / "a.zarr").exists()


@pytest.mark.parametrize("size", [(0, 100), (100, -1)])
def test_sizes_without_pixels_are_refused(
    fake_bundle: Bundle, tmp_path: Path, size: tuple[int, int]
) -> None:
    with pytest.raises(ConfigError, match="at least one pixel"):
        wsicodec.sample(tmp_path / "a.zarr", size=size, bundle=fake_bundle.path)
