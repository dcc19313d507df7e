"""Resampling by moments against resampling by rows."""

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics.bootstrap import around, resample
from wsicodec.metrics.distances import frechet_distance
from wsicodec.metrics.resampled import Resampling


def test_moments_give_what_rows_give(rng: np.random.Generator) -> None:
    """Unequal groups, a mean far from zero, and more rows than columns in every draw."""
    true = 50 + rng.normal(size=(90, 6)) @ rng.normal(size=(6, 6))
    drawn = true + rng.normal(0.5, 1, size=true.shape)
    groups = rng.permutation(np.repeat(["a", "b", "c", "d"], [30, 30, 20, 10])).tolist()

    def distance(rows: np.ndarray) -> float:
        return frechet_distance(true[rows], drawn[rows])

    by_rows = resample(distance, groups, count=12)
    whole = frechet_distance(true, drawn)
    by_moments = around(whole, Resampling(true, groups, 12).distances(drawn))
    assert by_moments == pytest.approx(by_rows, rel=1e-8)


def test_a_set_has_no_distance_to_itself(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(40, 5))
    found = Resampling(rows, np.arange(40) % 4, 9).distances(rows)  # type: ignore[arg-type]
    assert np.abs(found).max() < 1e-9


def test_one_group_cannot_be_resampled() -> None:
    with pytest.raises(ConfigError, match="two"):
        Resampling(np.zeros((4, 2)), ["a"] * 4, 3)
