"""Every kind of source, good and bad, through `open_slide`."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from wsicodec.errors import MppError, SlideError
from wsicodec.geometry import Region
from wsicodec.resample import box_reduce
from wsicodec.slide import SlideReader, open_reader, open_slide
from wsicodec.slide.array_reader import ArrayReader
from wsicodec.slide.openslide_reader import OpenSlideReader
from wsicodec.slide.tiff_reader import TiffReader

Image = NDArray[np.uint8]
WriteTiff = Callable[..., Path]
HALF_MICRON = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}


def _whole(source: SlideReader) -> Image:
    return source.read(Region(0, 0, *source.shape))


def test_tiled_tiff_comes_through_openslide(picture: Image, write_tiff: WriteTiff) -> None:
    with open_slide(write_tiff(picture, **HALF_MICRON)) as slide:
        assert isinstance(slide.reader, OpenSlideReader)
        assert (slide.mpp, slide.mpp_source, slide.reduction) == (0.5, "openslide.mpp-x", 1)
        assert np.array_equal(slide.read(Region(0, 0, *slide.shape)), picture)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": None, "rowsperstrip": 64},
        {"tile": None, "bigtiff": True},
        {"tile": None, "planarconfig": "contig", "compression": None},
    ],
    ids=["strips", "bigtiff", "plain"],
)
def test_flat_tiff_comes_through_tifffile(
    picture: Image, write_tiff: WriteTiff, options: dict[str, object]
) -> None:
    path = write_tiff(picture, resolution=(25_400, 25_400), resolutionunit="INCH", **options)
    with open_slide(path) as slide:
        assert isinstance(slide.reader, TiffReader)
        assert (slide.mpp, slide.mpp_source) == (1.0, "tiff:XResolution")
        assert np.array_equal(slide.read(Region(7, 9, 200, 401)), picture[7:200, 9:401])


@pytest.mark.parametrize("axes", ["YXS", "CYX"])
def test_ome_tiff_keeps_its_physical_size(picture: Image, write_tiff: WriteTiff, axes: str) -> None:
    planar = axes == "CYX"
    array = np.ascontiguousarray(picture.transpose(2, 0, 1)) if planar else picture
    path = write_tiff(
        array,
        "slide.ome.tif",
        photometric="minisblack" if planar else "rgb",
        metadata={"axes": axes, "PhysicalSizeX": 252, "PhysicalSizeXUnit": "nm"},
    )
    with closing(open_reader(path)) as reader:
        assert isinstance(reader, TiffReader)
        assert reader.mpp == pytest.approx(0.252)
        assert reader.mpp_source == "ome:PhysicalSizeX"
        assert np.array_equal(_whole(reader), picture)
        assert np.array_equal(reader.read(Region(100, 120, 150, 300)), picture[100:150, 120:300])
        assert max(reader.overview(200).shape) <= 200


def test_openslide_and_tifffile_read_the_same(drawn_slide: Path) -> None:
    one, other = OpenSlideReader(drawn_slide), TiffReader(drawn_slide)
    with one, other:
        assert (one.shape, one.mpp) == (other.shape, other.mpp)
        region = Region(200, 300, 900, 1100)
        assert np.array_equal(one.read(region), other.read(region))
        assert one.overview(300).shape == other.overview(300).shape


@pytest.mark.parametrize("form", ["png", "jpg", "bmp", "webp"])
def test_flat_images_need_the_scale_from_the_caller(
    picture: Image, tmp_path: Path, form: str
) -> None:
    path = tmp_path / f"field.{form}"
    PillowImage.fromarray(picture).save(path, dpi=(96, 96), quality=95, lossless=True)
    with pytest.raises(MppError, match=r"field\..*--mpp 0\.5"):
        open_slide(path)
    with open_slide(path, mpp=0.4) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.4, "caller")
        error = np.abs(slide.read(Region(0, 0, *slide.shape)) - picture.astype(float)).mean()
        assert error == 0 if form != "jpg" else error < 4


def test_a_picture_beyond_pillows_limit_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Image
) -> None:
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    for form, coded in (
        ("jpg", imagecodecs.jpeg_encode(picture)),
        ("png", imagecodecs.png_encode(picture)),
    ):
        path = tmp_path / f"large.{form}"
        path.write_bytes(coded)
        assert open_reader(path).shape == picture.shape[:2]


def test_arrays_and_readers_are_slides(picture: Image) -> None:
    reader = open_reader(picture)
    assert isinstance(reader, ArrayReader)
    assert open_reader(reader) is reader
    with open_slide(reader, mpp=0.5) as slide:
        assert np.array_equal(slide.read(Region(3, 4, 50, 60)), picture[3:50, 4:60])
    with pytest.raises(SlideError, match="path, an array or a SlideReader"):
        open_reader(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mpp", "reduction"), [(0.25, 2), (0.125, 4), (0.686, 1), (12.0, 1)])
def test_level_0_is_the_source_reduced_to_about_20x(
    picture: Image, mpp: float, reduction: int
) -> None:
    with open_slide(picture, mpp=mpp) as slide:
        reduced = box_reduce(picture, reduction)
        assert (slide.reduction, slide.mpp) == (reduction, mpp * reduction)
        assert slide.shape == reduced.shape[:2]
        assert np.array_equal(slide.read(Region(0, 0, *slide.shape)), reduced)
        part = Region(11, 13, 60, 70)
        assert np.array_equal(slide.read(part), reduced[part.slices()])


def test_reading_in_pieces_changes_nothing(picture: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsicodec.slide.scaled.PIECE", 64)
    with open_slide(picture, mpp=0.25) as slide:
        assert np.array_equal(slide.read(Region(0, 0, *slide.shape)), box_reduce(picture, 2))


def test_outside_the_slide_is_white(picture: Image) -> None:
    with open_slide(picture, mpp=0.5) as slide:
        read = slide.read(Region(-5, 400, 20, 420))
        assert np.array_equal(read[5:, :10], picture[:20, 400:])
        assert np.all(read[:5] == 255)
        assert np.all(read[:, 10:] == 255)
        assert np.all(slide.read(Region(900, 900, 910, 920)) == 255)


def test_the_callers_mpp_wins_over_an_unbelievable_one(
    picture: Image, write_tiff: WriteTiff
) -> None:
    path = write_tiff(picture, resolution=(1e7, 1e7), resolutionunit="CENTIMETER")
    with pytest.raises(MppError, match=r"slide\.tif"):
        open_slide(path)
    with open_slide(path, mpp=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "caller")


@pytest.mark.parametrize("mpp", [-1.0, 0.0, float("nan"), 1000.0])
def test_an_absurd_mpp_is_refused(picture: Image, mpp: float) -> None:
    with pytest.raises(MppError, match="between"):
        open_slide(picture, mpp=mpp)


def test_icc_profile_is_kept(picture: Image, write_tiff: WriteTiff, tmp_path: Path) -> None:
    profile = imagecodecs.cms_profile("srgb")
    tiled = write_tiff(picture, "tiled.tif", iccprofile=profile)
    strips = write_tiff(picture, "strips.tif", iccprofile=profile, tile=None)
    png = tmp_path / "flat.png"
    PillowImage.fromarray(picture).save(png, icc_profile=profile)
    for path in (tiled, strips, png):
        with closing(open_reader(path)) as reader:
            assert reader.icc == profile


def test_no_free_text_gets_out(picture: Image, write_tiff: WriteTiff) -> None:
    path = write_tiff(picture, description="Doe, Jane 1970-01-01", **HALF_MICRON)
    with closing(open_reader(path)) as reader:
        facts = reader.facts
    assert facts == {
        "vendor": "generic-tiff",
        "compression": "adobe_deflate",
        "tile": 128,
        "bits": 8,
    }


def _truncated(picture: Image, write_tiff: WriteTiff, name: str, **options: object) -> Path:
    path = write_tiff(picture, name, **options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    "options",
    [{"compression": "jpeg"}, {}, {"tile": None}, {"tile": None, "bigtiff": True}],
    ids=["jpeg", "tiles", "strips", "bigtiff"],
)
def test_a_truncated_tiff_is_refused_by_name(
    picture: Image, write_tiff: WriteTiff, options: dict[str, object]
) -> None:
    path = _truncated(picture, write_tiff, "cut.tif", **options)
    with pytest.raises(SlideError, match=r"cut\.tif.*truncated"):
        open_slide(path, mpp=0.5)


@pytest.mark.parametrize("form", ["jpg", "png"])
def test_a_truncated_image_is_refused_by_name(picture: Image, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"cut.{form}"
    PillowImage.fromarray(picture).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SlideError, match=rf"cut\.{form}.*truncated"):
        open_slide(path, mpp=0.5)


@pytest.mark.parametrize(
    "content", [b"", os.urandom(1000), b"II*\0" + bytes(60), b"text\n", b"\xff\xd8\xff\xe0"]
)
@pytest.mark.parametrize("name", ["bad.svs", "bad.tif", "bad.jpg"])
def test_rubbish_is_refused_in_one_line_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SlideError, match=name) as caught:
        open_slide(path, mpp=0.5)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"none\.svs does not exist"):
        open_slide(tmp_path / "none.svs")
    with pytest.raises(SlideError, match="is a folder"):
        open_slide(tmp_path)


@pytest.mark.parametrize("tile", [None, (128, 128)])
def test_one_channel_is_refused(
    picture: Image, write_tiff: WriteTiff, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    gray = write_tiff(picture[..., 0], "gray.tif", photometric="minisblack", tile=tile)
    flat = tmp_path / "gray.jpg"
    PillowImage.fromarray(picture[..., 0]).save(flat)
    for path in (gray, flat):
        with pytest.raises(SlideError, match=r"three channels.*gray\."):
            open_slide(path, mpp=0.5)


def test_a_damaged_tile_is_an_error_when_it_is_read(picture: Image, write_tiff: WriteTiff) -> None:
    path = write_tiff(picture, "hurt.tif")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = b"\xff" * 200
    path.write_bytes(bytes(data))
    for reader in (OpenSlideReader(path), TiffReader(path)):
        with reader, pytest.raises(SlideError, match=r"hurt\.tif"):
            _whole(reader)


def test_sparse_tiles_are_white(picture: Image, tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "sparse.tif"
    tiles = [picture[:128, :128].tobytes(), b"", b"", picture[128:256, 128:256].tobytes()]
    tifffile.imwrite(
        path, iter(tiles), shape=(256, 256, 3), dtype=np.uint8, tile=(128, 128), photometric="rgb"
    )
    with TiffReader(path) as reader:
        read = _whole(reader)
    assert np.all(read[:128, 128:] == 255)
    assert np.array_equal(read[128:, 128:], picture[128:256, 128:256])


def test_real_slides_state_their_scale(real_data: Path) -> None:
    with open_slide(real_data / "val/slides/CMU-1-Small-Region.svs") as slide:
        assert (slide.mpp, slide.shape, slide.facts["vendor"]) == (0.499, (2967, 2220), "aperio")
        assert slide.facts["quality"] == 30
    with open_slide(real_data / "val/slides/camelyon_overview_jpeg2000.dcm") as slide:
        assert slide.mpp == pytest.approx(28.9685)
        assert slide.facts == {"vendor": "dicom", "compression": "jpeg2000"}
