"""The sketch: its colours, its grain, its glass, and the digest that names it."""

import json
from pathlib import Path

import numpy as np
import pytest

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.sketch import GRAIN_SHARE, LEVEL, SIDE, Sketch, load_sketch, need_sketch
from wsicodec.models.stain_colours import FLATTEST, StainColours

GLASS = (240, 240, 240)
FAINT = np.log(1e-4)
# What a patch without the last 14 values has: densities, hues, contrasts, log energies.
EVEN = [0.6, 0.9, 0.5, 0, 0, (np.log(FLATTEST) + 1.67) / 0.64, 0, -0.46 / 0.25, *[FAINT] * 6]


def make_sketch(centre: list[float] = EVEN) -> Sketch:
    inverse = np.eye(14, dtype=np.float32)
    return Sketch(StainColours(np.array(centre, np.float32), inverse, "0" * 64))


def still(rows: int, columns: int) -> np.ndarray:
    return np.zeros((rows * SIDE, columns * SIDE), np.float32)


def test_patches_have_the_mean_colours_that_they_are_told(rng: np.random.Generator) -> None:
    vectors = np.zeros((12, 12, 20), np.float32)
    tissue = np.tile(np.arange(12) < 8, (12, 1))
    vectors[..., -14] = rng.uniform(-0.3, 0.3, (12, 12))  # of red's density
    sketch = make_sketch()
    drawn = sketch.draw(vectors, tissue, still(12, 12), GLASS)
    means = drawn.reshape(12, SIDE, 12, SIDE, 3).mean((1, 3))
    told, _ = sketch.stains.of(vectors)
    assert np.ptp(told[:, :8, 0]) > 50
    # Two rounds leave some percent of how much patches differ, beside glass as between tissue.
    assert np.abs(means - told)[:, :8].mean() < 0.03 * np.ptp(told[:, :8])
    assert (drawn[:, 10 * SIDE :] == 240).all()


def test_it_is_smooth_where_patches_meet() -> None:
    vectors = np.zeros((6, 6, 14), np.float32)
    vectors[:, 3:, :3] = 0.5
    sketch = make_sketch()
    drawn = sketch.draw(vectors, np.ones((6, 6), bool), still(6, 6), GLASS)
    row = drawn[24, :, 1].astype(int)
    step = row[4] - row[-4]
    assert step > 30
    assert np.abs(np.diff(row)).max() < 0.5 * step


def test_nothing_is_brighter_than_glass() -> None:
    vectors = np.zeros((5, 9, 14), np.float32)
    tissue = np.tile(np.arange(9) < 4, (5, 1))
    drawn = make_sketch().draw(vectors, tissue, still(5, 9), (99, 9, 7))
    assert (drawn <= (99, 9, 7)).all()
    assert (drawn[:, 6 * SIDE :] == (99, 9, 7)).all()


def test_grain_has_the_amplitude_that_deviations_tell(rng: np.random.Generator) -> None:
    # Red's density deviates by 0.2, green's by 0.1 and blue's not at all; none of it is fine.
    logs = np.log(np.array([0.2, 0.1, 0]) + FLATTEST)
    whole, across = logs.mean(), logs[0] - logs[2]
    middle = logs[1] - (logs[0] + logs[2]) / 2
    contrasts = [(whole + 1.67) / 0.64, across / 0.51, (middle - 0.46) / 0.25]
    sketch = make_sketch([0.7, 0.7, 0.7, 0, 0, *contrasts, *[FAINT] * 6])
    tissue = np.tile(np.arange(12) < 9, (12, 1))
    grain = rng.normal(size=(12 * SIDE, 12 * SIDE)).astype(np.float32)
    drawn = sketch.draw(np.zeros((12, 12, 14), np.float32), tissue, grain, GLASS).astype(float)
    inner = drawn[2 * SIDE : -2 * SIDE, 2 * SIDE : 7 * SIDE]
    colour = 256 * np.exp(-0.7)
    # 64 x 40 pixels, neighbours correlated by 0.44: a deviation is within 10 %. The mean of a
    # skewed density is up to 2 % brighter; rounding adds 1 / 12 to a variance.
    assert inner[..., 0].std() == pytest.approx(GRAIN_SHARE * 0.2 * colour, rel=0.12)
    assert inner[..., 1].std() == pytest.approx(GRAIN_SHARE * 0.1 * colour, rel=0.12)
    assert inner[..., 2].std() < 0.3
    steps = (inner[:, 1:, 0] - inner[..., 0].mean()) * (inner[:, :-1, 0] - inner[..., 0].mean())
    assert steps.mean() / inner[..., 0].var() == pytest.approx(0.44, abs=0.1)
    assert not np.ptp(drawn[:, -SIDE:], axis=0).any()  # glass has no grain


def test_the_digest_covers_what_it_is_computed_with() -> None:
    one, other = (Sketch(StainColours(*make_arrays(), digest)) for digest in ("0" * 64, "1" * 64))
    assert one.digest != other.digest
    assert one.digest == make_sketch().digest


def make_arrays() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(14, np.float32), np.eye(14, dtype=np.float32)


def test_a_patch_has_side_pixels_at_level() -> None:
    assert SIDE << LEVEL == 256


def test_an_embedder_without_stains_makes_none(tmp_path: Path) -> None:
    config = {"format": 1, "name": "fake", "files": {}, "embedder": {"width": 192}}
    (tmp_path / "bundle.json").write_text(json.dumps(config))
    assert load_sketch(Bundle(tmp_path)) is None
    with pytest.raises(BundleError, match="measures stains"):
        need_sketch(Bundle(tmp_path))


def test_the_embedded_bundle_makes_one() -> None:
    assert need_sketch(load_bundle()).stains.centre.shape == (14,)
