import numpy as np
import pytest

from wsicodec.diffusion.guidance import guide_by_scale, guide_by_weight, scale_of_weight

U, C = np.array([1.0, -2.0]), np.array([3.0, 0.5])


def test_both_conventions_have_their_own_neutral_number() -> None:
    assert np.array_equal(guide_by_scale(U, C, 1), C)
    assert np.array_equal(guide_by_scale(U, C, 0), U)
    assert np.array_equal(guide_by_weight(U, C, 0), C)


def test_a_weight_of_two_is_a_scale_of_three_and_not_of_two() -> None:
    assert scale_of_weight(2) == 3
    assert np.allclose(guide_by_weight(U, C, 2), guide_by_scale(U, C, 3))
    assert not np.allclose(guide_by_weight(U, C, 2), guide_by_scale(U, C, 2))
    assert guide_by_scale(U, C, 2)[0] == pytest.approx(5)
