"""Drawn tissue as fields, and features of it that need no network."""

from collections.abc import Callable

import numpy as np
import pytest

from wsicodec.geometry import Region
from wsicodec.metrics.pictures import Pixels, octaves
from wsicodec.slide import draw_slide, open_slide

SIDE = 256


@pytest.fixture(scope="session")
def fields(tmp_path_factory: pytest.TempPathFactory) -> list[Pixels]:
    """Twelve fields of drawn tissue, 256 x 256 px, of one slide."""
    path = tmp_path_factory.mktemp("metrics") / "drawn.tif"
    draw_slide(path, size=(3 * SIDE, 6 * SIDE), seed=3)
    with open_slide(path) as slide:
        rgb = slide.read(Region(0, 0, 3 * SIDE, 6 * SIDE))
    grid = rgb.reshape(3, SIDE, 6, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    stained = (grid.min(-1) < 200).mean((1, 2))
    chosen = np.sort(np.argsort(-stained, kind="stable")[:12])
    return [np.ascontiguousarray(grid[i]) for i in chosen]


@pytest.fixture(scope="session")
def plain_features() -> Callable[[Pixels], np.ndarray]:
    """Mean colour and log octave energies of tiles (n, h, w, 3): (n, 6)."""

    def extract(pixels: Pixels) -> np.ndarray:
        rows = []
        for tile in pixels:
            energies = [2 * np.log(energy + 1) for energy, _ in octaves(tile)]
            rows.append([*tile.mean((0, 1)) / 16, *energies])
        return np.array(rows)

    return extract
