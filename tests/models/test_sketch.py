"""The sketch: its colours, its grain, its glass, and the digest that names it."""

import numpy as np
import pytest

from wsicodec.models import sketch
from wsicodec.models.edm_config import EdmConfig, shapes
from wsicodec.models.sketch import Sketch
from wsicodec.models.stain_colours import StainColours

CONFIG = EdmConfig(components=3, width=16, depth=2, heads=2, mlp_ratio=2, octaves=2, window=8)


def random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {k: rng.normal(0, 0.2, s).astype(np.float32) for k, s in shapes(CONFIG).items()}


def test_a_sketch_is_linear_in_a_cell_and_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    side = CONFIG.sketch
    table = weights["sketch"].reshape(-1, side, side, 3)
    table[4 * CONFIG.channels + 1, ..., 0] = 10  # its own first coefficient: red
    table[3 * CONFIG.channels, :, 0, 2] = 99  # tissue to the left: blue at the left edge
    table[-1] = 50
    channels = np.zeros((3, 4, CONFIG.channels), np.float32)
    channels[..., 0] = -1
    channels[1, 1] = [1, 7, 0, 0]
    monkeypatch.setattr(sketch, "SMOOTH", 0)
    network = Sketch(CONFIG, weights)
    drawn = network.draw(channels, np.zeros((3 * side, 4 * side), np.float32))
    assert drawn.shape == (3 * side, 4 * side, 3)
    np.testing.assert_array_equal(drawn[side + 1, side + 1], [120, 50, 50])
    np.testing.assert_array_equal(drawn[side, 2 * side], [50, 50, 149])
    np.testing.assert_array_equal(drawn[side, 2 * side + 1], [50, 50, 50])
    assert (drawn[:, 3 * side :] == 243).all()
    monkeypatch.setattr(sketch, "SMOOTH", 2)
    smooth = network.draw(channels, np.zeros((12 * side, 16 * side), np.float32))
    assert smooth.shape == (3 * network.side, 4 * network.side, 3)
    assert np.abs(np.diff(smooth.astype(int), axis=1)).max() < 0.5 * (243 - 50)


def test_known_glass_takes_the_place_of_what_would_be_guessed(
    rng: np.random.Generator,
) -> None:
    weights = random_weights(rng)
    weights["sketch"][-1] = 20
    network = Sketch(CONFIG, weights)
    channels = np.zeros((5, 9, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(9) < 4, 1, -1)
    side = network.side
    grain = np.zeros((5 * side, 9 * side), np.float32)
    guessed, known = network.draw(channels, grain), network.draw(channels, grain, (99, 9, 7))
    tissue = np.minimum(guessed[:, : 3 * side], (99, 9, 7))
    np.testing.assert_array_equal(known[:, : 3 * side], tissue, "nothing is brighter than glass")
    assert (known[:, 6 * side :] == (99, 9, 7)).all()
    assert (guessed[:, 6 * side :] == 243).all()
    # Half a patch further in, the cubic has let go of all but 7 % of what lies beside it.
    assert np.abs(known[:, 4 * side + 4 : 5 * side].astype(int) - (99, 9, 7)).max() < 10
    assert (guessed[:, 4 * side + 2] < 100).all()


def test_patches_have_the_mean_colours_that_their_stains_tell(rng: np.random.Generator) -> None:
    table = np.zeros((4, 6), np.float32)
    table[0, :3] = 0.3  # more of the first coefficient is darker
    table[-1] = 0.6, 0.9, 0.5, -2, -2, -2
    stains = StainColours(table, "0" * 64)
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["sketch"][-1] = 200  # what a linear map would say
    weights["deviation"][:] = 1
    network = Sketch(CONFIG, weights, stains)
    channels = np.zeros((12, 12, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(12) < 8, 1, -1)
    channels[:, :8, 1] = rng.uniform(-1, 1, (12, 8))
    side = network.side
    drawn = network.draw(channels, np.zeros((12 * side, 12 * side), np.float32), (240, 240, 240))
    means = drawn.reshape(12, side, 12, side, 3).mean((1, 3))
    told = stains.of(channels[..., 1:])
    assert np.ptp(told[:, :8, 0]) > 50
    # Two rounds leave some percent of how much patches differ, beside glass as between tissue.
    assert np.abs(means - told)[:, :8].mean() < 0.03 * np.ptp(told[:, :8])
    assert (drawn[:, 10 * side :] == 240).all()


def test_the_digest_of_a_sketch_covers_what_it_is_computed_with(
    rng: np.random.Generator,
) -> None:
    weights = random_weights(rng)
    digest = Sketch(CONFIG, weights).digest
    for name in ("mean", "deviation", "sketch", "grain", "stain"):
        other = weights | {name: weights[name] + 1}
        assert Sketch(CONFIG, other).digest != digest
    stains = StainColours(np.zeros((4, 6), np.float32), "0" * 64)
    assert Sketch(CONFIG, weights, stains).digest != digest
    retrained = weights | {"last": weights["last"] + 1}
    assert Sketch(CONFIG, retrained).digest == digest
    assert Sketch(CONFIG, weights).level == 5


def test_grain_has_the_amplitude_and_the_colour_that_it_is_given(rng: np.random.Generator) -> None:
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["sketch"][-1] = 128
    weights["grain"][-1] = 12
    weights["stain"][:] = 1, 0.5, 0
    channels = np.zeros((8, 9, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(9) < 6, 1, -1)
    network = Sketch(CONFIG, weights)
    grain = rng.normal(size=(8 * network.side, 9 * network.side))
    drawn = network.draw(channels, grain.astype(np.float32)).astype(float) - 128
    inner = drawn[8:-8, 8 : 4 * network.side]
    # 24 x 24 pixels and more, neighbours correlated by 0.44: a deviation is within 10 %.
    assert inner[..., 0].std() == pytest.approx(12, rel=0.15)
    assert inner[..., 1].std() == pytest.approx(6, rel=0.15)
    assert not inner[..., 2].any()
    steps = inner[:, 1:, 0] * inner[:, :-1, 0]
    assert steps.mean() / inner[..., 0].var() == pytest.approx(0.44, abs=0.1)
    assert not np.ptp(drawn[:, -4:], axis=0).any()  # glass has no grain
