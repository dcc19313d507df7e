"""Flat images and arrays as slides."""

from pathlib import Path
from typing import Any, Protocol, Self

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.errors import SlideError
from wsicodec.geometry import Region
from wsicodec.slide.base import Facts, allowed_facts, over_white, reduce_to_fit, require_rgb
from wsicodec.slide.jpeg import is_whole, jpeg_quality

# Formats that hold a photograph; the rest of Pillow's plug-ins never see a stranger's file.
FORMATS = ("JPEG", "PNG", "JPEG2000", "WEBP", "AVIF", "BMP", "PPM")


class ArrayLike(Protocol):
    """A NumPy, zarr or dask array: (h, w, 3 or 4) of uint8."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        ...

    @property
    def dtype(self) -> Any:
        """Pixel type."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """A part, as anything that NumPy turns into an array."""
        ...


class ArrayReader:
    """An array in the role of a slide, without scale.

    array: (h, w, 3) RGB or (h, w, 4) RGBA, uint8; sliced lazily, so zarr and dask stay on disk.
    name: what messages call it.
    """

    mpp: float | None = None
    mpp_source = ""

    def __init__(
        self,
        array: ArrayLike,
        name: str = "the array",
        icc: bytes | None = None,
        facts: Facts | None = None,
    ) -> None:
        require_rgb(tuple(array.shape), np.dtype(array.dtype), name)
        self._array, self._name = array, name
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))
        self.icc = icc
        self.facts: Facts = facts if facts is not None else {"vendor": "array"}

    def read(self, src_region: Region) -> NDArray[np.uint8]:
        """RGB pixels of a region, (h, w, 3); what is transparent is white."""
        return over_white(np.asarray(self._array[src_region.slices()], np.uint8))

    def overview(self, max_side: int) -> NDArray[np.uint8]:
        """The whole array, box-filtered to fit, RGB (h, w, 3)."""

        def rows(y0: int, y1: int) -> NDArray[np.uint8]:
            return self.read(Region(y0, 0, y1, self.shape[1]))

        return reduce_to_fit(rows, self.shape, max_side)

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_image(path: Path) -> ArrayReader:
    """Load a flat image (JPEG, PNG, JPEG 2000, WebP, AVIF, BMP, PPM) whole.

    Its resolution tag is not believed: cameras and image programs write 72 or 96 dpi into it.
    Raises SlideError, naming the file, if it is not such an image, not RGB, or cut short.
    """
    try:
        with path.open("rb") as stream:
            return _load(_identify(stream, path.name), path)
    except SlideError:
        raise
    except Exception as error:  # Pillow's plug-ins raise nearly everything on damaged files
        raise SlideError(
            f"expected an image, but {path.name} cannot be read: {error}; "
            "check that the file is whole"
        ) from error


def _identify(stream: Any, name: str) -> Image.Image:
    """Open by content. Not `Image.open`, whose limit on pixels a slide exceeds by nature."""
    Image.init()
    prefix = stream.read(16)
    for form in FORMATS:
        factory, accept = Image.OPEN.get(form, (None, None))
        if factory and accept and accept(prefix) is True:
            stream.seek(0)
            return factory(stream, name)
    raise SlideError(
        f"expected a slide or an image, but {name} is none that can be recognised; "
        "give a slide that OpenSlide opens, a TIFF, or a flat image such as JPEG or PNG"
    )


def _load(image: Image.Image, path: Path) -> ArrayReader:
    icc = image.info.get("icc_profile")
    quality = None
    if image.format == "JPEG":
        data = path.read_bytes()
        if not is_whole(data):
            raise SlideError(f"expected a whole JPEG, but {path.name} is truncated; copy it again")
        quality = jpeg_quality(data)
        pixels = np.asarray(imagecodecs.jpeg_decode(data))
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            raise SlideError(f"expected three channels (RGB) in {path.name}, got CMYK; convert it")
    else:
        if image.mode == "P":
            image = image.convert("RGBA")
        pixels = np.asarray(image)
    form = (image.format or path.suffix.lstrip(".")).lower()
    facts = allowed_facts({"vendor": "image", "compression": form, "quality": quality, "bits": 8})
    return ArrayReader(pixels, path.name, icc if isinstance(icc, bytes) else None, facts)
