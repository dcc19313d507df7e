import pytest

from wsicodec.diffusion.schedule import (
    FlowSchedule,
    LatentDiffusionSchedule,
    time_of_equal_noise,
)


@pytest.mark.parametrize(
    ("index", "alpha_bar"),
    [
        (0, 0.9985),
        (1, 0.996994427069975),
        (481, 0.13336291096253935),
        (500, 0.11492200085532281),
        (999, 0.00014230397519201791),
    ],
)
def test_the_published_schedule_has_its_published_values(index: int, alpha_bar: float) -> None:
    t = (index + 1) / 1000
    schedule = LatentDiffusionSchedule()
    assert schedule.index(t) == index
    assert schedule.alpha(t) ** 2 == pytest.approx(alpha_bar, rel=1e-9)
    assert schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2 == pytest.approx(1)


def test_clean_is_clean() -> None:
    assert LatentDiffusionSchedule().sigma(0) == 0
    assert FlowSchedule().sigma(0) == 0


@pytest.mark.parametrize("schedule", [FlowSchedule(), LatentDiffusionSchedule()])
def test_times_fall_from_start_to_zero(schedule: FlowSchedule | LatentDiffusionSchedule) -> None:
    times = schedule.times(4, 0.5)
    assert len(times) == 5
    assert times[0] == pytest.approx(0.5)
    assert times[-1] == 0
    assert list(times) == sorted(times, reverse=True)


def test_half_way_of_zoomldm_is_late_in_a_flow() -> None:
    published, flow = LatentDiffusionSchedule(), FlowSchedule()
    t = time_of_equal_noise(flow, published, 0.501)
    ratio = (flow.alpha(t) / flow.sigma(t)) ** 2
    assert ratio == pytest.approx(0.130, abs=0.001)
