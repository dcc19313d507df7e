"""Small slides of every make that the tests of `wsicodec.slide` read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

Image = NDArray[np.uint8]
WriteTiff = Callable[..., Path]


@pytest.fixture
def picture(rng: np.random.Generator) -> Image:
    """RGB noise over a gradient, 300 x 410: no two rows, columns or channels alike."""
    y, x = np.mgrid[0:300, 0:410]
    base = np.stack([y / 3, x / 4, (x + y) / 5], axis=-1) + 60
    return np.asarray(np.clip(base + rng.normal(0, 4, base.shape), 0, 255), np.uint8)


@pytest.fixture
def write_tiff(tmp_path: Path) -> WriteTiff:
    """Write an array as a TIFF, lossless and in tiles of 128 px unless told otherwise."""

    def write(array: Image, name: str = "slide.tif", **options: Any) -> Path:
        path = tmp_path / name
        given = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib", **options}
        tifffile.imwrite(path, array, **{k: v for k, v in given.items() if v is not None})
        return path

    return write
