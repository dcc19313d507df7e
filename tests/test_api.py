"""The public calls from end to end, on the embedded bundle."""

from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import wsicodec
from wsicodec.errors import ConfigError, MppError, StoreExistsError
from wsicodec.geometry import Region
from wsicodec.slide import open_slide


@pytest.fixture(scope="module")
def tissue(drawn_slide: Path) -> NDArray[np.uint8]:
    """A piece of the drawn slide, two patches by three."""
    with open_slide(drawn_slide) as slide:
        return slide.read(Region(256, 512, 768, 1280))


def test_the_same_slide_in_a_zip_and_in_memory_shows_the_same_pixels(
    tissue: NDArray[np.uint8], tmp_path: Path
) -> None:
    memory = zarr.storage.MemoryStore()
    wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.5)
    wsicodec.encode(tissue, tmp_path / "s.zip", mpp=0.5)
    wsicodec.encode(tissue, memory, mpp=0.5)
    shown = [
        np.asarray(wsicodec.open(place)["0"])
        for place in (tmp_path / "s.zarr", tmp_path / "s.zip", memory)
    ]
    np.testing.assert_array_equal(shown[0], shown[1])
    np.testing.assert_array_equal(shown[0], shown[2])
    for place in (tmp_path / "s.zip", memory):
        assert wsicodec.check(place).ok
        assert wsicodec.info(place)["preset"] == "standard"


def test_what_goes_in_is_what_is_reported(tissue: NDArray[np.uint8], tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = wsicodec.encode(
        tissue, tmp_path / "s.zarr", mpp=0.686, progress=lambda *step: seen.append(step)
    )
    on_disk = sum(p.stat().st_size for p in (tmp_path / "s.zarr").rglob("*") if p.is_file())
    assert report.bytes == on_disk
    assert report.slide_pixels == tissue.shape[0] * tissue.shape[1]
    assert report.bpp_slide == pytest.approx(8 * on_disk / report.slide_pixels)
    assert seen[-1] == (6, 6, "patches")
    assert wsicodec.info(tmp_path / "s.zarr")["mpp"] == 0.686


def test_measured_levels_are_the_slide_itself(tissue: NDArray[np.uint8], tmp_path: Path) -> None:
    wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.5, preset="measured")
    group = wsicodec.open(tmp_path / "s.zarr", allow_generated=False)
    np.testing.assert_array_equal(np.asarray(group["0"]), tissue)
    assert np.asarray(group["embeddings"]).any()


def test_a_finer_slide_is_reduced_and_keeps_its_true_scale(
    tissue: NDArray[np.uint8], tmp_path: Path
) -> None:
    wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.23, preset="measured")
    assert np.asarray(wsicodec.open(tmp_path / "s.zarr")["0"]).shape == (256, 384, 3)
    assert wsicodec.info(tmp_path / "s.zarr")["mpp"] == pytest.approx(0.46)


def test_nothing_is_guessed_or_overwritten(tissue: NDArray[np.uint8], tmp_path: Path) -> None:
    with pytest.raises(MppError, match="--mpp"):
        wsicodec.encode(tissue, tmp_path / "s.zarr")
    with pytest.raises(ConfigError, match="preset"):
        wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.5, preset="nonsense")
    assert not list(tmp_path.iterdir())
    (tmp_path / "s.zarr").mkdir()
    with pytest.raises(StoreExistsError, match="overwrite"):
        wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.5)


def test_a_decoded_slide_opens_in_openslide(tissue: NDArray[np.uint8], tmp_path: Path) -> None:
    wsicodec.encode(tissue, tmp_path / "s.zarr", mpp=0.5)
    out = wsicodec.decode(tmp_path / "s.zarr", tmp_path / "s.tif")
    shown = np.asarray(wsicodec.open(tmp_path / "s.zarr")["0"]).astype(float)
    with open_slide(out) as slide:
        assert slide.shape == tissue.shape[:2]
        assert slide.mpp == pytest.approx(0.5)
        again = slide.read(Region(0, 0, *slide.shape)).astype(float)
    assert np.abs(again - shown).mean() < 6
