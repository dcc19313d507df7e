"""Windows that are blended: complete cover, exact means, no seam."""

from collections.abc import Sequence

import numpy as np
import pytest

from wsicodec.synthesis.windows import BATCH, Plane


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (9, 31), (32, 17)])
def test_every_cell_lies_in_a_window_and_windows_in_the_plane(shape: tuple[int, int]) -> None:
    plane = Plane(shape, 8)
    seen = np.zeros(plane.padded, int)
    for y, x in plane.corners:
        assert y + 8 <= plane.padded[0]
        assert x + 8 <= plane.padded[1]
        seen[y : y + 8, x : x + 8] += 1
    assert seen.min() >= 1
    assert plane.inside.sum() == shape[0] * shape[1]
    # Windows begin on cells of the octave above.
    assert all((y - plane.margin) % 2 == 0 == (x - plane.margin) % 2 for y, x in plane.corners)


def test_windows_that_agree_blend_to_what_they_say(rng: np.random.Generator) -> None:
    plane = Plane((20, 13), 8)
    truth = rng.normal(size=(*plane.padded, 3)).astype(np.float32)
    sizes = []

    def estimate(corners: Sequence[tuple[int, int]]) -> np.ndarray:
        sizes.append(len(corners))
        return plane.cut(truth, corners)

    blended = plane.blend(estimate, plane.inside, 3)
    np.testing.assert_allclose(blended[plane.own], truth[plane.own], atol=1e-6)
    assert max(sizes) <= BATCH


def test_windows_that_disagree_leave_no_step_where_one_ends() -> None:
    plane = Plane((40, 8), 8)
    blended = plane.blend(
        lambda corners: np.stack([np.full((8, 8, 1), y // 4 % 2, np.float32) for y, _ in corners]),
        plane.inside,
        1,
    )[plane.own][:, 4, 0]
    # Tents squared of 8 cells, 4 apart: the share of one falls by (25 - 9) / (25 + 9) at most.
    assert np.abs(np.diff(blended)).max() == pytest.approx(16 / 34, rel=1e-5)
    assert np.ptp(blended) > 0.9


def test_windows_that_nobody_needs_are_not_estimated() -> None:
    plane = Plane((32, 32), 8)
    needed = np.zeros(plane.padded, bool)
    needed[plane.margin, plane.margin] = True
    asked: list[tuple[int, int]] = []

    def estimate(corners: Sequence[tuple[int, int]]) -> np.ndarray:
        asked.extend(corners)
        return np.ones((len(corners), 8, 8, 1), np.float32)

    blended = plane.blend(estimate, needed, 1)
    assert asked == [(0, 0)]
    assert blended[0, 0, 0] == pytest.approx(1)
    assert blended[-1, -1, 0] == 0


def test_padding_puts_values_where_they_belong(rng: np.random.Generator) -> None:
    plane = Plane((5, 6), 8)
    values = rng.normal(size=(5, 6, 2)).astype(np.float32)
    padded = plane.pad(values, np.array([-1, 0], np.float32))
    np.testing.assert_array_equal(padded[plane.own], values)
    np.testing.assert_array_equal(padded[0, 0], [-1, 0])
