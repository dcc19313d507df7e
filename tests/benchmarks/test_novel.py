"""The parts of the novelty benchmark that its figures rest on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks.novel", exc_type=ImportError)

from benchmarks import novel
from wsicodec.config import BLANK, GENERATED


class Group(dict[str, Any]):
    """Stands for an open slide: levels that tell their own places."""

    def __init__(self, side: int, tissue: np.ndarray) -> None:
        super().__init__(tissue=tissue)
        for level in range(8):
            n = side >> level
            place = (np.arange(n) % 256).astype(np.uint8)
            y, x = np.meshgrid(place, place, indexing="ij")
            self[str(level)] = np.stack([y, x, np.full_like(x, level)], 2)


def test_the_nearest_is_the_nearest() -> None:
    found = novel.nearest(np.array([[0.0, 0], [3, 4]]), np.array([[0.0, 1], [3, 0], [9, 9]]))
    np.testing.assert_allclose(found, [1, 4])


def test_tiles_are_taken_where_tissue_is_all_around() -> None:
    tissue = np.full((6, 6), BLANK, np.uint8)
    tissue[1:5, 1:5] = GENERATED
    tiles = novel.novel_tiles(Group(1536, tissue), 10)
    assert tiles.shape == (4, 256, 256, 3)
    assert (tiles[:, 0, 0, :2] == 0).all()


def test_a_sheet_shows_one_place_at_every_level() -> None:
    tissue = np.full((8, 8), BLANK, np.uint8)
    tissue[4, 5] = GENERATED
    group = Group(2048, tissue)
    assert novel.densest(group) == (4 * 256 + 128, 5 * 256 + 128)
    shown = novel.sheet(group)
    assert shown.shape == (256, 256 * len(novel.SHOWN), 3)
    assert shown[128, 256 * (len(novel.SHOWN) - 1) + 128, 2] == 0


def test_seams_are_looked_for_at_tile_borders() -> None:
    tissue = np.full((8, 8), GENERATED, np.uint8)
    rows = novel.seams(Group(2048, tissue), "s")
    assert [r.setting for r in rows] == ["level 0", "level 1", "level 2"]
    # The places count to 255 and begin anew at every tile: nothing but seams.
    assert all(r.value > 50 for r in rows)


def test_real_fields_tell_what_seams_there_are_without_windows(drawn_slide: Path) -> None:
    rows = novel.real_seams(drawn_slide, "val")
    assert [r.setting for r in rows] == ["val level 0", "val level 1"]
    for row in rows:
        assert row.runs >= 1
        assert 0.5 < row.low <= row.value <= row.high < 2


def test_the_histogram_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    made = novel.histogram(tmp_path / "h.png", rng.random(50), rng.random(40) + 1)
    assert made.stat().st_size > 1000
