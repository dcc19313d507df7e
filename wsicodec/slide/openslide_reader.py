"""Everything that OpenSlide opens: SVS, NDPI, SCN, MRXS, DICOM, Philips, generic tiled TIFF."""

from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import openslide
from numpy.typing import NDArray

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.slide.base import Facts, allowed_facts, over_white, reduce_to_fit
from wsicodec.slide.scale import ABSENT, Found, mean_mpp
from wsicodec.slide.tiff_reader import TiffFacts

PIECE = 2048  # pixels; side of what is read at once, to keep RGBA copies small
TRANSFER_SYNTAXES = {  # DICOM PS3.6 table A-1
    "1.2.840.10008.1.2.4.50": "jpeg",
    "1.2.840.10008.1.2.4.90": "jpeg2000",
    "1.2.840.10008.1.2.4.91": "jpeg2000",
}


def detects(path: Path) -> bool:
    """Whether OpenSlide claims the file."""
    return openslide.OpenSlide.detect_format(str(path)) is not None


class OpenSlideReader:
    """A slide through OpenSlide.

    path: the file, or the main one of several.
    tiff: what `inspect_tiff` found in it, if it is a TIFF.

    Raises SlideError, naming the file, if OpenSlide cannot open it.
    """

    def __init__(self, path: Path, tiff: TiffFacts | None = None) -> None:
        self.path = path
        try:
            self._slide = openslide.OpenSlide(str(path))
        except (openslide.OpenSlideError, OSError) as error:
            raise SlideError(
                f"expected a readable slide, but OpenSlide refuses {path.name}: {error}; "
                "check that the file is whole"
            ) from error
        width, height = self._slide.dimensions
        self.shape: tuple[int, int] = (height, width)
        self.facts: Facts = self._find_facts(tiff)
        self.icc: bytes | None = tiff.icc if tiff else self._color_profile()

    @property
    def mpp(self) -> float | None:
        """µm per pixel, None if absent; raises MppError if it is not believable."""
        return self._scale[0]

    @property
    def mpp_source(self) -> str:
        """The property that `mpp` was read from."""
        return self._scale[1]

    @cached_property
    def _scale(self) -> Found:
        properties = self._slide.properties
        try:
            x = float(properties[openslide.PROPERTY_NAME_MPP_X])
            y = float(properties[openslide.PROPERTY_NAME_MPP_Y])
        except (KeyError, ValueError):
            return ABSENT
        return mean_mpp(x, y, openslide.PROPERTY_NAME_MPP_X, self.path.name)

    def _find_facts(self, tiff: TiffFacts | None) -> Facts:
        properties = self._slide.properties
        facts: dict[str, str | float | int | None] = dict(tiff.facts) if tiff else {}
        facts["vendor"] = properties.get(openslide.PROPERTY_NAME_VENDOR)
        try:
            facts["objective"] = float(properties[openslide.PROPERTY_NAME_OBJECTIVE_POWER])
        except (KeyError, ValueError):
            facts["objective"] = None
        syntax = properties.get("dicom.TransferSyntaxUID", "")
        facts.setdefault("compression", TRANSFER_SYNTAXES.get(syntax))
        return allowed_facts(facts)

    def _color_profile(self) -> bytes | None:
        profile = self._slide.color_profile
        return None if profile is None else bytes(profile.tobytes())

    def read(self, src_region: Region) -> NDArray[np.uint8]:
        """RGB pixels of a region of the finest level, (h, w, 3); unscanned is white."""
        return self._read_level(0, 1.0, src_region)

    def _read_level(self, level: int, downsample: float, region: Region) -> NDArray[np.uint8]:
        height, width = region.shape
        if height <= PIECE and width <= PIECE:
            return self._read_piece(level, downsample, region)
        out = np.empty((height, width, 3), np.uint8)
        for y in range(region.y0, region.y1, PIECE):
            for x in range(region.x0, region.x1, PIECE):
                piece = Region(y, x, min(y + PIECE, region.y1), min(x + PIECE, region.x1))
                at = piece.slices((region.y0, region.x0))
                out[at] = self._read_piece(level, downsample, piece)
        return out

    def _read_piece(self, level: int, downsample: float, region: Region) -> NDArray[np.uint8]:
        corner = (round(region.x0 * downsample), round(region.y0 * downsample))
        height, width = region.shape
        try:
            image = self._slide.read_region(corner, level, (width, height))
        except (openslide.OpenSlideError, OSError, ValueError) as error:
            raise SlideError(
                f"expected pixels at row {region.y0}, column {region.x0} of {self.path.name}, "
                f"but OpenSlide cannot read them: {error}; check that the file is whole"
            ) from error
        return over_white(np.asarray(image))

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole slide from the coarsest level that is fine enough, RGB (h, w, 3)."""
        sizes = self._slide.level_dimensions
        fine = [k for k, size in enumerate(sizes) if max(size) >= max_side]
        level = fine[-1] if fine else 0
        width, height = sizes[level]
        downsample = self._slide.level_downsamples[level]

        def rows(y0: int, y1: int) -> NDArray[np.uint8]:
            return self._read_level(level, downsample, Region(y0, 0, y1, width))

        return reduce_to_fit(rows, (height, width), max_side)

    def close(self) -> None:
        """Close the slide."""
        self._slide.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
