import numpy as np
import pytest

from wsicodec.diffusion.noise import noise_field
from wsicodec.geometry import Region

SLIDE = "00112233445566778899aabbccddeeff"
FROZEN = [0.520751953125, 0.367919921875, -1.452880859375, 0.8447265625]


def test_a_window_is_part_of_a_larger_one() -> None:
    large = noise_field(SLIDE, 3, Region(-8, -8, 40, 56), 4)
    small = noise_field(SLIDE, 3, Region(-2, 5, 20, 30), 4)
    np.testing.assert_array_equal(small, large[:, 6:28, 13:38])


def test_it_is_standard_normal() -> None:
    values = noise_field(SLIDE, 0, Region(0, 0, 400, 400), 2).astype(np.float64)
    assert abs(values.mean()) < 0.01
    assert abs(values.var() - 1) < 0.01
    assert abs((values**4).mean() - 3) < 0.06


@pytest.mark.parametrize(
    ("slide", "level"),
    [("10112233445566778899aabbccddeeff", 0), (SLIDE, 1)],
    ids=["slide", "level"],
)
def test_another_slide_or_level_has_another_field(slide: str, level: int) -> None:
    region = Region(0, 0, 64, 64)
    here, there = noise_field(SLIDE, 0, region, 4), noise_field(slide, level, region, 4)
    assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.03


def test_neighbours_and_channels_are_independent() -> None:
    values = noise_field(SLIDE, 0, Region(0, 0, 128, 128), 2)
    for a, b in [
        (values[0], values[1]),
        (values[:, 1:], values[:, :-1]),
        (values[:, :, 1:], values[:, :, :-1]),
    ]:
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.03


def test_its_numbers_are_part_of_the_format() -> None:
    values = noise_field(SLIDE, 0, Region(0, 0, 1, 4), 1).ravel()
    np.testing.assert_array_equal(values * 4096, np.round(values * 4096))
    assert values.tolist() == FROZEN
