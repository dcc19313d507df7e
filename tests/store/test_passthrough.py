"""Sources whose own tiles are kept, and what else of a source goes into a store."""

from pathlib import Path

import numpy as np
import tifffile
from PIL import ImageCms

from tests.store import kit
from wsicodec.models.bundle import Bundle
from wsicodec.slide.opening import open_slide
from wsicodec.store.check import check_store
from wsicodec.store.describe import describe
from wsicodec.store.passthrough import tile_format
from wsicodec.store.plan import Picture
from wsicodec.store.writer import encode_slide


def write_source(path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    tifffile.imwrite(
        path,
        kit.tissue_picture(1300, 1700),
        tile=(240, 240),
        photometric="rgb",
        compression="jpeg",
        compressionargs={"level": 80},
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
        iccprofile=profile.tobytes(),
        description="Jane Doe, born 1 April",
    )


def test_a_source_of_jpeg_tiles_is_copied_byte_for_byte(
    fake_bundle: Bundle, tmp_path: Path
) -> None:
    write_source(tmp_path / "source.tif")
    store = tmp_path / "s.zarr"
    with open_slide(tmp_path / "source.tif") as slide:
        encode_slide(slide, store, fake_bundle, kit.embed, "measured")
    assert check_store(store).findings == ()
    with tifffile.TiffFile(tmp_path / "source.tif") as tiff:
        page = tiff.pages.first
        stored = b"".join(p.read_bytes() for p in (store / "anchor/c").glob("*/*/0"))
        for offset, size in zip(page.dataoffsets, page.databytecounts, strict=True):
            tiff.filehandle.seek(offset)
            assert tiff.filehandle.read(size) in stored
        decoded = page.asarray()
    np.testing.assert_array_equal(kit.read(store, "anchor"), decoded)
    np.testing.assert_array_equal(kit.read(store, "0"), decoded)


def test_the_icc_profile_is_kept_and_names_are_not(fake_bundle: Bundle, tmp_path: Path) -> None:
    write_source(tmp_path / "source.tif")
    with open_slide(tmp_path / "source.tif") as slide:
        icc = slide.icc
        encode_slide(slide, tmp_path / "s.zarr", fake_bundle, kit.embed)
    assert icc
    assert kit.read(tmp_path / "s.zarr", "icc").tobytes() == icc
    for path in (tmp_path / "s.zarr").rglob("*.json"):
        text = path.read_text()
        assert "Doe" not in text
        assert "source.tif" not in text
    source = describe(tmp_path / "s.zarr")["source"]
    assert source["derivation"][0]["method"] == "jpeg"


def test_chunks_hold_whole_source_tiles() -> None:
    class Tiles:
        tile_shape = (240, 256)
        tables = b""
        colourspace = "YCBCR"

    picture = Picture("anchor", 0, (5000, 5000), tile_format(Tiles()))  # type: ignore[arg-type]
    assert picture.copied
    assert picture.chunk == (960, 1024)
