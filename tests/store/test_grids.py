"""Grids that a codec is fitted to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.store import kit
from wsicodec.errors import SlideError
from wsicodec.slide.opening import open_slide
from wsicodec.store.grids import file_grid, glass_embedding, slide_grid

h5py = pytest.importorskip("h5py")


def mean(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(patches.mean((1, 2)), np.float32)


def test_tissue_alone_is_embedded_where_it_lies() -> None:
    picture = kit.tissue_picture(700, 900)
    with open_slide(picture, mpp=0.5) as slide:
        grid = slide_grid(slide, mean, 3)
    assert grid.shape == (3, 4, 3)
    np.testing.assert_allclose(grid[1, 2], picture[256:512, 512:768].mean((0, 1)), rtol=1e-5)
    assert not grid[:, 3].any()
    assert glass_embedding(mean).tolist() == [255, 255, 255]


def written(path: Path, coords: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"] = np.arange(1, 1 + 3 * len(coords), dtype=np.float32).reshape(-1, 3)
        file["coords"] = np.array(coords)
    return path


def test_features_lie_on_the_lattice_of_their_coordinates(tmp_path: Path) -> None:
    grid = file_grid(written(tmp_path / "a.h5", [[512, 0], [1024, 0], [512, 1536]]), 3)
    assert grid.shape == (4, 2, 3)
    assert grid[0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert grid[3, 0].tolist() == [7, 8, 9]
    assert grid.any(-1).sum() == 3
    assert file_grid(written(tmp_path / "one.h5", [[7, 9]]), 3).shape == (1, 1, 3)
    with pytest.raises(SlideError, match="scattered"):
        file_grid(written(tmp_path / "far.h5", [[0, 0], [1, 0], [90_000, 90_000]]), 3)
