"""A store as a pyramidal TIFF."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from tests.store import kit
from wsicodec.errors import ConfigError, StoreExistsError
from wsicodec.store.export import export_tiff
from wsicodec.store.publish import open_store
from wsicodec.store.report import EncodeReport


def test_openslide_opens_it_with_its_scale_and_levels(
    encode: Callable[..., EncodeReport], tmp_path: Path
) -> None:
    rgb = kit.tissue_picture(1100, 1400)
    encode(rgb, tmp_path / "s.zarr", preset="measured")
    seen: list[tuple[int, int, str]] = []
    out = export_tiff(
        open_store(tmp_path / "s.zarr"),
        tmp_path / "out.tif",
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    with openslide.OpenSlide(out) as slide:
        assert slide.level_dimensions == ((1400, 1100), (700, 550), (350, 275))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        shown = np.asarray(slide.read_region((200, 300), 0, (512, 512)).convert("RGB"), float)
    assert np.abs(shown - rgb[300:812, 200:712]).mean() < 6
    assert seen[-1] == (30 + 9 + 4, 30 + 9 + 4, "tiles")
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_bigtiff
        assert "not for diagnosis" in tiff.pages.first.description
        assert tiff.pages.first.tile == (256, 256)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.tif", "s.zarr"]


def test_a_coarser_level_may_be_the_finest(store: Path) -> None:
    out = export_tiff(open_store(store), store.parent / "out.tiff", level=2)
    with tifffile.TiffFile(out) as tiff:
        assert [page.shape for page in tiff.pages] == [(175, 225, 3)]


def test_bad_names_levels_and_existing_files_are_refused(store: Path) -> None:
    group, out = open_store(store), store.parent / "out.tif"
    with pytest.raises(ConfigError, match="level"):
        export_tiff(group, out, level=8)
    with pytest.raises(ConfigError, match="ending in"):
        export_tiff(group, store.parent / "out.jpg")
    out.write_text("mine")
    with pytest.raises(StoreExistsError, match="overwrite"):
        export_tiff(group, out)
    assert out.read_text() == "mine"
    export_tiff(group, out, level=4, overwrite=True)
    assert out.read_bytes()[:2] in (b"II", b"MM")


def test_a_failure_leaves_nothing_behind(store: Path) -> None:
    def stop(done: int, total: int, unit: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_tiff(open_store(store), store.parent / "out.tif", level=2, progress=stop)
    assert [p.name for p in store.parent.iterdir()] == [store.name]
