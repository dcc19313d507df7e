"""The source's own JPEG tiles decode to the very pixels that the slide shows."""

from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.slide import JpegTiles, Slide, open_slide
from wsicodec.slide.jpeg import is_whole, jpeg_quality
from wsicodec.slide.tile_reader import TileReader

Image = NDArray[np.uint8]
WriteTiff = Callable[..., Path]


def _check_pixels(slide: Slide, tiles: JpegTiles) -> None:
    assert isinstance(slide.reader, TileReader)
    height, width = tiles.tile_shape
    for ty, tx in Region(0, 0, *tiles.grid).cells():
        tile = imagecodecs.jpeg_decode(
            tiles.read(ty, tx),
            tables=tiles.tables or None,
            colorspace=tiles.colourspace,
            outcolorspace="RGB",
        )
        assert tile.shape == (height, width, 3)
        place = Region(ty * height, tx * width, (ty + 1) * height, (tx + 1) * width)
        seen = place.clip(slide.shape)
        rows, columns = seen.slices((place.y0, place.x0))
        assert np.array_equal(tile[rows, columns], slide.reader.inner.read(seen)), (ty, tx)


def test_drawn_slide(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        tiles = slide.tiles
        assert tiles is not None
        assert (tiles.tile_shape, tiles.colourspace) == ((256, 256), "YCBCR")
        _check_pixels(slide, tiles)
        with pytest.raises(IndexError, match="inside"):
            tiles.read(*tiles.grid)


def test_aperio_slide_with_shared_tables_in_rgb(real_data: Path) -> None:
    with open_slide(real_data / "val/slides/CMU-1-Small-Region.svs") as slide:
        tiles = slide.tiles
        assert tiles is not None
        assert (tiles.tile_shape, tiles.colourspace) == ((240, 240), "RGB")
        assert len(tiles.tables) > 100
        _check_pixels(slide, tiles)


def test_tiles_are_not_offered_where_level_0_is_made_of_something_else(
    picture: Image, write_tiff: WriteTiff
) -> None:
    jpeg = write_tiff(picture, "jpeg.tif", compression="jpeg")
    for source, mpp in (
        (jpeg, 0.25),
        (write_tiff(picture, "zlib.tif"), 0.5),
        (write_tiff(picture, "strips.tif", compression="jpeg", tile=None), 0.5),
        (picture, 0.5),
    ):
        with open_slide(source, mpp=mpp) as slide:
            assert slide.tiles is None


@pytest.mark.parametrize("quality", [20, 30, 50, 75, 85, 95])
def test_quality_is_read_from_the_tables(picture: Image, quality: int) -> None:
    coded = bytes(imagecodecs.jpeg_encode(picture, quality))
    assert jpeg_quality(coded) == pytest.approx(quality, abs=1)


def test_a_cut_jpeg_is_not_whole(picture: Image) -> None:
    coded = bytes(imagecodecs.jpeg_encode(picture, 80))
    assert is_whole(coded)
    assert is_whole(coded + b"padding")
    assert not is_whole(coded[:-2])
    assert not is_whole(coded[:200])


def test_the_shorter_way_shows_what_openslide_shows(drawn_slide: Path) -> None:
    with open_slide(drawn_slide) as slide:
        assert isinstance(slide.reader, TileReader)
        for region in (Region(0, 0, 300, 1536), Region(700, 900, 1024, 1301), Region(9, 9, 10, 10)):
            assert np.array_equal(slide.read(region), slide.reader.inner.read(region))


def test_a_tile_that_does_not_decode_is_an_error(
    picture: Image, write_tiff: WriteTiff, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_slide(write_tiff(picture, "hurt.tif", compression="jpeg"), mpp=0.5) as slide:
        assert slide.tiles is not None
        monkeypatch.setattr(slide.tiles, "read", lambda ty, tx: b"no jpeg")
        with pytest.raises(SlideError, match=r"hurt\.tif"):
            slide.read(Region(0, 0, 10, 10))
