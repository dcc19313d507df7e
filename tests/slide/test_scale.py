"""Micrometres per pixel from tags and OME-XML."""

import pytest

from wsicodec.errors import MppError
from wsicodec.slide.scale import ABSENT, mean_mpp, mpp_of_ome, mpp_of_resolution


@pytest.mark.parametrize(
    ("x", "unit", "mpp"), [(20_000, 3, 0.5), (50_800, 2, 0.5), (40_000, 3, 0.25)]
)
def test_resolution_tags_in_both_units(x: float, unit: int, mpp: float) -> None:
    found, source = mpp_of_resolution(x, x, unit, "x.tif")
    assert found == pytest.approx(mpp)
    assert source == "tiff:XResolution"


@pytest.mark.parametrize(
    ("x", "unit"), [(72, 2), (96, 2), (300, 2), (1, 1), (0, 3), (1, 3), (28.35, 3)]
)
def test_print_resolutions_and_unitless_ones_count_as_absent(x: float, unit: int) -> None:
    assert mpp_of_resolution(x, x, unit, "x.tif") == ABSENT


def test_impossibly_fine_pixels_are_refused() -> None:
    with pytest.raises(MppError, match=r"x\.tif.*--mpp"):
        mpp_of_resolution(10_000_000, 10_000_000, 3, "x.tif")


def test_pixels_far_from_square_are_refused() -> None:
    with pytest.raises(MppError, match=r"square pixels in x\.tif"):
        mean_mpp(0.5, 0.7, "openslide.mpp-x", "x.tif")
    assert mean_mpp(0.5, 0.52, "openslide.mpp-x", "x.tif")[0] == pytest.approx(0.51)


SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
OME = f'<OME xmlns="{SCHEMA}"><Image><Pixels {{}}/></Image></OME>'


@pytest.mark.parametrize(
    ("attributes", "mpp"),
    [
        ('PhysicalSizeX="0.25" PhysicalSizeY="0.25"', 0.25),
        ('PhysicalSizeX="250" PhysicalSizeXUnit="nm"', 0.25),
        ('PhysicalSizeX="5e-4" PhysicalSizeXUnit="mm" PhysicalSizeY="0.5"', 0.5),
        ('PhysicalSizeX="1" PhysicalSizeXUnit="pixel"', None),
        ('PhysicalSizeX="wide"', None),
        ('SizeX="3"', None),
    ],
)
def test_ome_physical_sizes_and_their_units(attributes: str, mpp: float | None) -> None:
    found, _ = mpp_of_ome(OME.format(attributes), "x.ome.tif")
    assert found == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize("xml", ["", "<OME>", '<!DOCTYPE a [<!ENTITY b "c">]><OME/>', "<OME/>"])
def test_broken_or_hostile_xml_counts_as_absent(xml: str) -> None:
    assert mpp_of_ome(xml, "x.ome.tif") == ABSENT
