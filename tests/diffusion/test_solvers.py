"""Solvers against what can be solved on paper: data that is one point, and Gaussian data.

For data of mean m and deviation s the best estimate of the noise is linear in x, and the flow
carries x_t to alpha m + sqrt(alpha^2 s^2 + sigma^2) u with u fixed (Song et al. 2021, section D).
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wsicodec.diffusion import solvers
from wsicodec.diffusion.trained_steps import (
    Way,
    alpha_bars,
    square_root_linear,
    way_from_noise,
    way_from_step,
)
from wsicodec.errors import ConfigError

Solver = Callable[[solvers.Estimate, Any, Way], Any]
ALL: list[Solver] = [solvers.ddim, solvers.plms, solvers.dpm_solver_2m]
TABLE = alpha_bars(square_root_linear())
MEAN, DEVIATION = 0.7, 0.5

# The same noise law in 16000 steps, for limits.
FINE_LENGTH = 16_000
FINE = alpha_bars(
    square_root_linear(FINE_LENGTH, 0.0015 * 1000 / FINE_LENGTH, 0.0195 * 1000 / FINE_LENGTH)
)

solver_by_name = pytest.mark.parametrize("solver", ALL, ids=lambda s: s.__name__)


def gaussian(table: Any, mean: float = MEAN, deviation: float = DEVIATION) -> solvers.Estimate:
    def estimate(x: Any, t: int) -> Any:
        a = float(table[t])
        return math.sqrt(1 - a) * (x - math.sqrt(a) * mean) / (a * deviation**2 + 1 - a)

    return estimate


def carried(x: Any, way: Way, mean: float = MEAN, deviation: float = DEVIATION) -> Any:
    begin, end = way.alpha_bar[0], way.alpha_bar[-1]
    spread = [math.sqrt(a * deviation**2 + 1 - a) for a in (begin, end)]
    return math.sqrt(end) * mean + spread[1] / spread[0] * (x - math.sqrt(begin) * mean)


def middle_way(steps: int) -> Way:
    """From four fifths to near a tenth of the fine table, in even strides."""
    stride = FINE_LENGTH // 10 // steps
    told = tuple(range(FINE_LENGTH * 8 // 10, FINE_LENGTH // 10 - 1, -stride))
    return Way(told, tuple(float(FINE[t]) for t in (*told, told[-1] - stride)))


@solver_by_name
@pytest.mark.parametrize("way", [way_from_noise(5, TABLE), way_from_step(500, 100, TABLE)])
def test_a_single_point_is_reached_exactly_whatever_the_steps(solver: Solver, way: Way) -> None:
    x = np.linspace(-2, 3, 7)
    found = solver(gaussian(TABLE, deviation=0.0), x, way)
    # alpha at step 981 is 0.013, which magnifies roundings of 2 ** -53 a hundredfold.
    assert np.allclose(found, carried(x, way, deviation=0.0), atol=1e-12)


@solver_by_name
def test_every_solver_tends_to_the_flow(solver: Solver) -> None:
    x, errors = np.array([-1.0, 1.3]), []
    for steps in (8, 16, 32):
        way = middle_way(steps)
        errors.append(np.abs(solver(gaussian(FINE), x, way) - carried(x, way)).max())
    order = math.log2(errors[1] / errors[2])
    assert errors[2] < 2e-3
    assert order == pytest.approx(1 if solver is solvers.ddim else 2, abs=0.15)


def test_in_the_limit_all_agree() -> None:
    way = middle_way(400)
    x = np.array([-1.0, 1.3])
    ends = [solver(gaussian(FINE), x, way) for solver in ALL]
    assert np.ptp(ends, axis=0).max() < 2e-4
    assert np.abs(ends[1] - ends[2]).max() < 1e-6


def test_a_ddim_step_is_the_line_through_clean_and_noise() -> None:
    clean, eps = np.array([0.3, -1.0]), np.array([1.5, 0.2])
    x = solvers.add_noise(clean, eps, 0.2)
    assert np.allclose(solvers.clean_from_noise(x, eps, 0.2), clean)
    assert np.allclose(solvers.ddim_step(x, eps, 0.2, 0.7), solvers.add_noise(clean, eps, 0.7))


def test_new_noise_keeps_the_variance_of_the_law() -> None:
    """At eta = 1 and with unit data, the sum of what is kept and added is one again."""
    here, there = 0.2, 0.7
    variance = solvers.posterior_variance(here, there)
    kept = solvers.ddim_step(0.0, 1.0, here, there, variance, 0.0) - math.sqrt(there) * (
        -math.sqrt(1 - here) / math.sqrt(here)
    )
    assert kept**2 + variance == pytest.approx(1 - there)
    beta = 1 - here / there
    assert variance == pytest.approx(beta * (1 - there) / (1 - here))


def test_stochastic_ddim_gives_the_data_its_own_deviation() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(20_000)
    way = way_from_noise(250, TABLE)
    found = solvers.ddim(
        gaussian(TABLE), x, way, eta=1.0, fresh=lambda t: rng.standard_normal(20_000)
    )
    # 20000 draws leave 0.5 % on a deviation; 250 steps of first order and alpha_bar[0] the rest.
    assert found.mean() == pytest.approx(MEAN, abs=0.02)
    assert found.std() == pytest.approx(DEVIATION, rel=0.03)
    with pytest.raises(ConfigError, match="source"):
        solvers.ddim(gaussian(TABLE), x, way, eta=1.0)


@pytest.mark.parametrize(
    ("solver", "evaluations"), [(solvers.ddim, 50), (solvers.plms, 51), (solvers.dpm_solver_2m, 50)]
)
def test_evaluations_are_counted(solver: Solver, evaluations: int) -> None:
    asked: list[int] = []

    def estimate(x: Any, t: int) -> Any:
        asked.append(t)
        return 0 * x

    solver(estimate, np.ones(1), way_from_noise(50, TABLE))
    assert len(asked) == evaluations
    if solver is solvers.plms:
        assert asked[:3] == [981, 961, 961]


def test_solvers_take_tensors() -> None:
    torch = pytest.importorskip("torch")
    way = way_from_noise(10, TABLE)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)
    for solver in ALL:
        found = solver(gaussian(TABLE), x, way)
        assert np.allclose(found.numpy(), solver(gaussian(TABLE), x.numpy(), way))
