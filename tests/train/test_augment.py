import numpy as np
import pytest

from wsicodec.train.augment import (
    AugmentConfig,
    StainBend,
    draw_bend,
    jpeg_again,
    resize,
    shrink,
    turn,
)


def test_the_eight_turns_differ_and_keep_every_pixel(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (6, 6, 3), np.uint8)
    turned = [turn(image, code) for code in range(8)]
    assert len({t.tobytes() for t in turned}) == 8
    assert all(np.array_equal(np.sort(t, None), np.sort(image, None)) for t in turned)


def test_glass_stays_glass_and_stain_moves() -> None:
    bend = StainBend.draw(np.random.default_rng(1), AugmentConfig(stain_gain=0.5))
    assert bend.apply(np.full((4, 4, 3), 255, np.uint8)).min() >= 253
    tissue = np.full((4, 4, 3), (150, 90, 160), np.uint8)
    assert np.abs(bend.apply(tissue).astype(int) - tissue).max() > 5


def test_a_bend_without_strength_changes_nothing(rng: np.random.Generator) -> None:
    bend = StainBend.draw(rng, AugmentConfig(stain_gain=0, stain_bias=0, channel_gain=0))
    image = rng.integers(0, 256, (16, 16, 3), np.uint8)
    assert np.abs(bend.apply(image).astype(int) - image).max() <= 1


def test_the_plain_share_is_plain() -> None:
    config = AugmentConfig(plain_share=0.25)
    drawn = [draw_bend(np.random.default_rng(i), config) is None for i in range(400)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.07)


def test_resampling_and_jpeg_keep_colours(rng: np.random.Generator) -> None:
    image = np.full((40, 40, 3), (180, 120, 170), np.uint8)
    image[::4] = (120, 70, 150)
    for other in (resize(image, 32), jpeg_again(image, 90)):
        assert np.abs(other.mean((0, 1)) - image.mean((0, 1))).max() < 2


@pytest.mark.parametrize("zoom", [0.8, 1.25])
def test_other_scales_are_coarser_ones(zoom: float) -> None:
    rgb = np.full((100, 60, 3), 90, np.uint8)
    rgb[50:] = 200
    found = shrink(rgb, zoom)
    assert found.shape == (80, 48, 3)
    assert (found[:38] == 90).all()
    assert (found[42:] == 200).all()
    assert shrink(rgb, 1.0) is rgb
