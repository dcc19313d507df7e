"""The published schedule against its published values, and the ways down it."""

import numpy as np
import pytest

from wsicodec.diffusion.trained_steps import (
    alpha_bars,
    schedule_buffers,
    square_root_linear,
    unlike_schedule,
    way_from_noise,
    way_from_step,
)
from wsicodec.errors import ConfigError

BETAS = square_root_linear()
TABLE = alpha_bars(BETAS)


@pytest.mark.parametrize(
    ("t", "beta", "alpha_bar"),
    [
        (0, 0.0015, 0.9985),
        (1, 0.0015078346820481532, 0.996994427069975),
        (481, 0.007624322354462741, 0.13336291096253935),
        (500, 0.007963175016542864, 0.11492200085532281),
        (501, 0.007981213442047795, 0.11400478383730928),
        (999, 0.0195, 0.00014230397519201791),
    ],
)
def test_values_are_the_published_ones(t: int, beta: float, alpha_bar: float) -> None:
    # Both were computed in double precision: a thousand roundings of 2 ** -53 are 2e-13.
    assert BETAS[t] == pytest.approx(beta, rel=1e-12)
    assert TABLE[t] == pytest.approx(alpha_bar, rel=1e-12)


def test_betas_are_linear_in_their_square_roots() -> None:
    assert np.ptp(np.diff(np.sqrt(BETAS))) < 1e-15
    assert np.ptp(np.diff(BETAS)) > 1e-6


def test_the_twelve_tables_agree_with_one_another() -> None:
    tables = schedule_buffers(BETAS)
    assert len(tables) == 12
    assert all(table.shape == (1000,) for table in tables.values())
    # The posterior's mean of a noiseless latent is that latent a step earlier: coefficients say so.
    after, before = tables["alphas_cumprod"], tables["alphas_cumprod_prev"]
    mean = tables["posterior_mean_coef1"] + tables["posterior_mean_coef2"] * np.sqrt(after)
    assert np.allclose(mean, np.sqrt(before), rtol=1e-12)
    recip, recipm1 = tables["sqrt_recip_alphas_cumprod"], tables["sqrt_recipm1_alphas_cumprod"]
    assert np.allclose(recip**2 - recipm1**2, 1, atol=1e-9)


def test_tables_of_a_file_are_told_from_other_schedules() -> None:
    single = {name: table.astype(np.float32) for name, table in schedule_buffers(BETAS).items()}
    assert unlike_schedule(single, BETAS) == []
    assert unlike_schedule({**single, "betas": single["betas"][:999]}, BETAS) == ["betas"]
    del single["alphas_cumprod"]
    assert unlike_schedule(single, BETAS) == ["alphas_cumprod"]
    linear = np.linspace(0.0015, 0.0195, 1000)
    assert "betas" in unlike_schedule(schedule_buffers(linear), BETAS)
    other = square_root_linear(first=0.00085, last=0.012)
    assert len(unlike_schedule(schedule_buffers(other), BETAS)) > 8


def test_the_published_way_of_fifty_steps() -> None:
    way = way_from_noise(50, TABLE)
    assert way.steps == tuple(range(981, 0, -20))
    assert len(way.alpha_bar) == 51
    assert way.alpha_bar[0] == TABLE[981]
    assert way.alpha_bar[-1] == TABLE[0] == pytest.approx(0.9985)


def test_the_way_from_an_intermediate_step() -> None:
    way = way_from_step(500, 20, TABLE)
    assert (way.steps[0], way.steps[-1], len(way.steps)) == (500, 0, 26)
    assert way.alpha_bar[0] == TABLE[500]
    assert way.alpha_bar[-2:] == (TABLE[0], 1.0)


@pytest.mark.parametrize("count", [0, -1, 7, 1000, 2000])
def test_step_numbers_that_do_not_divide_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="divides 1000"):
        way_from_noise(count, TABLE)


@pytest.mark.parametrize(("start", "stride"), [(0, 20), (1000, 20), (500, 0), (500, 30)])
def test_starts_off_the_stride_are_refused(start: int, stride: int) -> None:
    with pytest.raises(ConfigError, match="multiple of the stride"):
        way_from_step(start, stride, TABLE)
