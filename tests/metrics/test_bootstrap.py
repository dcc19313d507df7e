import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics.bootstrap import Interval, bootstrap


def test_interval_of_a_mean_is_that_of_the_normal_law(rng: np.random.Generator) -> None:
    """1.96 standard errors a side; 400 draws give a quantile to about a twelfth of one."""
    values = rng.normal(5, 2, 200)
    found = bootstrap(lambda rows: float(values[rows].mean()), range(200), count=400)
    error = values.std() / 200**0.5
    assert found.value == values.mean()
    assert (found.value - found.low) / error == pytest.approx(1.96, abs=0.35)
    assert (found.high - found.value) / error == pytest.approx(1.96, abs=0.35)


def test_rows_of_one_group_go_together(rng: np.random.Generator) -> None:
    """Ten equal rows a group count once: the interval is as wide as that of the groups."""
    values = rng.normal(size=20)
    groups = [f"slide {i}" for i in np.repeat(np.arange(20), 10)]
    single = bootstrap(lambda rows: float(values[rows].mean()), range(20))
    grouped = bootstrap(lambda rows: float(values.repeat(10)[rows].mean()), groups)
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=1e-9)


def test_the_same_seed_draws_alike() -> None:
    values = np.arange(9.0)
    first, second = (bootstrap(lambda r: float(values[r].sum()), range(9)) for _ in range(2))
    assert first == second


def test_intervals_apart() -> None:
    low, high = Interval(1, 0.5, 1.5), Interval(2, 1.6, 2.5)
    assert low.apart(high)
    assert high.apart(low)
    assert not low.apart(Interval(1.2, 1.4, 3))


def test_one_group_cannot_be_resampled() -> None:
    with pytest.raises(ConfigError, match="two"):
        bootstrap(lambda _: 0.0, ["a", "a"])
