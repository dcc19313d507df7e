import numpy as np
import pytest

from wsicodec.diffusion.sampler import clean_from_noise_estimate, sample
from wsicodec.diffusion.schedule import FlowSchedule, LatentDiffusionSchedule

SCHEDULES = [FlowSchedule(), LatentDiffusionSchedule()]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3])
def test_a_perfect_denoiser_is_believed(
    schedule: FlowSchedule | LatentDiffusionSchedule, steps: int
) -> None:
    clean = np.linspace(-2, 2, 12).reshape(1, 1, 3, 4)
    noise = np.random.default_rng(0).normal(size=clean.shape)
    x = schedule.alpha(1.0) * clean + schedule.sigma(1.0) * noise
    got = sample(lambda *_: clean, x, schedule, schedule.times(steps))
    np.testing.assert_allclose(got, clean, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_more_steps_come_nearer_to_a_gaussian(
    schedule: FlowSchedule | LatentDiffusionSchedule,
) -> None:
    """For data N(0, s^2) the best estimate is linear, and the flow maps noise to data exactly."""
    spread = 0.5

    def denoise(x: float, t: float, step: float) -> float:
        a, s = schedule.alpha(t), schedule.sigma(t)
        return x * a * spread**2 / (a**2 * spread**2 + s**2)

    errors = [
        abs(sample(denoise, 1.0, schedule, schedule.times(steps)) - spread) for steps in (2, 8, 250)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02


def test_the_solver_is_told_how_far_it_goes() -> None:
    seen = []

    def denoise(x: float, t: float, step: float) -> float:
        seen.append((t, step))
        return x

    sample(denoise, 1.0, FlowSchedule(), [1.0, 0.75, 0.0])
    assert seen == [(1.0, 0.25), (0.75, 0.75)]


def test_an_estimate_of_the_noise_gives_the_clean_latent() -> None:
    schedule, clean, noise = LatentDiffusionSchedule(), 0.7, -1.3
    x = schedule.alpha(0.4) * clean + schedule.sigma(0.4) * noise
    assert clean_from_noise_estimate(x, noise, schedule, 0.4) == pytest.approx(clean)
