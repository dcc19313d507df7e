import numpy as np
import pytest

from wsicodec.diffusion.windows import (
    DOWN,
    HALO,
    WINDOW,
    conditioning_map,
    embedding_region,
    latent_region,
    lock_colour,
    tile_window,
)
from wsicodec.geometry import PATCH, Region

LEVELS = range(8)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return np.stack([y, x], -1) + 1, np.ones((size, size), bool)


def test_no_more_than_1_6_latents_are_decoded_for_one_that_is_kept() -> None:
    assert (WINDOW / PATCH) ** 2 <= 1.6
    assert latent_region(tile_window(2, 3)).shape == (WINDOW // DOWN, WINDOW // DOWN)


@pytest.mark.parametrize("level", LEVELS)
def test_neighbouring_windows_are_told_the_same_where_they_overlap(level: int) -> None:
    grid, valid = _grid(2 << level if level > 0 else 4)
    left = conditioning_map(grid, valid, (0, 0), tile_window(0, 0), level)
    right = conditioning_map(grid, valid, (0, 0), tile_window(0, 1), level)
    np.testing.assert_array_equal(left[:, :, 8:], right[:, :, :2])


@pytest.mark.parametrize("level", LEVELS)
def test_rows_stay_rows(level: int) -> None:
    """The grid is y first: a map of an asymmetric grid grows downwards in its first channel."""
    grid, valid = _grid(8 << level)
    rows, columns, inside = conditioning_map(grid, valid, (0, 0), tile_window(2, 4), level)
    assert (np.diff(rows, axis=0) >= 0).all()
    assert rows[-1, 0] > rows[0, 0]
    assert np.ptp(rows, axis=1).max() == 0
    assert np.ptp(columns, axis=0).max() == 0
    assert columns.mean() > rows.mean()
    assert (inside == 1).all()


def test_a_patch_is_repeated_over_its_own_tile_at_level_0() -> None:
    grid, valid = _grid(5)
    rows, columns, _ = conditioning_map(grid, valid, (0, 0), tile_window(2, 3), 0)
    assert (rows[1:9, 1:9] == 3).all()
    assert (columns[1:9, 1:9] == 4).all()
    assert (rows[0] == 2).all()
    assert (columns[:, 9] == 5).all()


def test_cells_average_what_falls_into_them() -> None:
    grid, valid = _grid(64)
    rows, _, _ = conditioning_map(grid, valid, (0, 0), tile_window(0, 0), 5)
    assert rows[1, 1] == grid[:4, :4, 0].mean()


def test_beyond_the_grid_and_on_glass_there_is_nothing() -> None:
    grid, valid = _grid(2)
    valid[0, 1] = False
    rows, _, inside = conditioning_map(grid, valid, (0, 0), tile_window(0, 0), 0)
    assert inside[0, 5] == 0
    assert inside[5, 9] == 0
    assert rows[5, 9] == 0
    assert inside[5, 5] == 1


def test_part_of_a_grid_is_as_good_as_all_of_it() -> None:
    grid, valid = _grid(40)
    window = tile_window(3, 4)
    need = embedding_region(window, 2)
    part = conditioning_map(
        grid[need.slices()], valid[need.slices()], (need.y0, need.x0), window, 2
    )
    np.testing.assert_array_equal(part, conditioning_map(grid, valid, (0, 0), window, 2))


def test_embedding_regions_cover_the_window() -> None:
    assert embedding_region(tile_window(1, 1), 0) == Region(0, 0, 3, 3)
    assert embedding_region(tile_window(1, 1), 3) == Region(7, 7, 17, 17)


def test_colours_follow_the_parent_and_detail_stays() -> None:
    rng = np.random.default_rng(0)
    detail = rng.normal(0, 20, (WINDOW, WINDOW, 3)).astype(np.float32)
    detail -= detail.reshape(20, 16, 20, 16, 3).mean((1, 3)).repeat(16, 0).repeat(16, 1)
    parent = np.full((WINDOW // 2, WINDOW // 2, 3), (180, 120, 160), np.float32)
    locked = lock_colour(detail + np.float32(90), parent)
    np.testing.assert_allclose(
        locked - detail, np.broadcast_to(parent[:1, :1], detail.shape), atol=0.01
    )


def test_blocks_end_within_a_tenth_of_how_far_they_were_off() -> None:
    rng = np.random.default_rng(2)
    parent = rng.uniform(0, 255, (WINDOW // 2, WINDOW // 2, 3)).astype(np.float32)
    off = rng.normal(0, 9, (20, 20, 3)).astype(np.float32).repeat(16, 0).repeat(16, 1)
    drawn = parent.repeat(2, 0).repeat(2, 1) + off

    def left(image: np.ndarray) -> float:
        means = (image - drawn + off).reshape(5, 64, 5, 64, 3).mean((1, 3))
        return float(np.square(means).mean())

    assert left(lock_colour(drawn, parent)) < 0.01 * left(drawn)


def test_a_window_that_already_agrees_is_left_alone() -> None:
    rng = np.random.default_rng(1)
    parent = rng.uniform(0, 255, (WINDOW // 2, WINDOW // 2, 3)).astype(np.float32)
    drawn = parent.repeat(2, 0).repeat(2, 1)
    np.testing.assert_allclose(lock_colour(drawn, parent), drawn, atol=1e-3)


def test_the_halo_is_whole_conditioning_cells_and_latents() -> None:
    assert HALO % 32 == 0
