"""Micrometres per pixel out of what files say."""

import math
from xml.etree import ElementTree as ET

from wsicodec.errors import MppError
from wsicodec.geometry import MPP_RANGE

Found = tuple[float | None, str]  # µm per pixel, and the property that it came from
ABSENT: Found = (None, "")

# µm in one unit; TIFF 6.0 page 38 (ResolutionUnit) and the OME schema's UnitsLength.
TIFF_UNITS = {2: 25_400.0, 3: 10_000.0}
OME_UNITS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
MAX_ANISOTROPY = 1.2


def mean_mpp(x: float, y: float, source: str, name: str) -> Found:
    """One scale from the two of x and y.

    x, y: µm per pixel; not positive or not finite counts as absent.
    source: the property they come from, for messages.
    name: the file's name, for messages.

    Raises MppError if the pixels are far from square or finer than any microscope. What is
    coarser than MPP_RANGE is the print resolution that image programs write unasked (72, 96,
    300 dpi) and counts as absent.
    """
    if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
        return ABSENT
    if max(x, y) / min(x, y) > MAX_ANISOTROPY:
        raise MppError(
            f"expected square pixels in {name}, got {x:g} by {y:g} micrometres ({source}); "
            "give the true value with mpp=..., on the command line --mpp"
        )
    mpp = (x + y) / 2
    if mpp > MPP_RANGE[1]:
        return ABSENT
    if mpp < MPP_RANGE[0]:
        raise MppError(
            f"expected at least {MPP_RANGE[0]} micrometres per pixel in {name}, got {mpp:g} "
            f"({source}); give the true value with mpp=..., on the command line --mpp"
        )
    return mpp, source


def mpp_of_resolution(x: float, y: float, unit: int, name: str) -> Found:
    """The scale that TIFF's XResolution and YResolution (pixels per `unit`) mean."""
    if unit not in TIFF_UNITS or not (x > 0 and y > 0):
        return ABSENT
    return mean_mpp(TIFF_UNITS[unit] / x, TIFF_UNITS[unit] / y, "tiff:XResolution", name)


def mpp_of_ome(xml: str, name: str) -> Found:
    """The scale of the first image of an OME-XML document (PhysicalSizeX and Y)."""
    if "<!ENTITY" in xml:
        return ABSENT
    try:
        root = ET.fromstring(xml)  # noqa: S314 - entities were refused above
    except ET.ParseError:
        return ABSENT
    pixels = next((e for e in root.iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return ABSENT
    sizes = [_ome_length(pixels.attrib, axis) for axis in "XY"]
    x, y = (sizes[0] or sizes[1], sizes[1] or sizes[0])
    return ABSENT if x is None or y is None else mean_mpp(x, y, "ome:PhysicalSizeX", name)


def _ome_length(attributes: dict[str, str], axis: str) -> float | None:
    unit = OME_UNITS.get(attributes.get(f"PhysicalSize{axis}Unit", "µm"))
    try:
        return float(attributes[f"PhysicalSize{axis}"]) * unit if unit else None
    except (KeyError, ValueError):
        return None
