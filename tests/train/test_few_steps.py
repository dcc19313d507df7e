"""Targets of few-step training on flows whose steps are known exactly."""

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from wsicodec.train.few_steps import (  # noqa: E402
    between,
    consistency_target,
    mean_flow_target,
    moved,
    pseudo_huber,
    shortcut_target,
)

pytestmark = pytest.mark.torch
SPREAD = 0.6  # deviation of the data
N, SHAPE = 5, (5, 2, 3, 4)


def deviation(t: Any) -> Any:
    """Of x at time t, for data N(0, SPREAD^2) and noise N(0, 1)."""
    return ((1 - t).square() * SPREAD**2 + t.square()).sqrt()[:, None, None, None]


def exact(x: Any, t: Any, step: Any) -> Any:
    """The clean latent that lands a step on the flow of that data: x grows as its deviation."""
    end = x * deviation(t - step) / deviation(t)
    share = (step / t)[:, None, None, None]
    return (end - (1 - share) * x) / share


def velocity(x: Any, t: Any) -> Any:
    """dx/dt of the same flow."""
    time = t[:, None, None, None]
    return x * (time - (1 - time) * SPREAD**2) / deviation(t).square()


@pytest.fixture
def drawn() -> tuple[Any, Any, Any]:
    """Latents in double precision, times and steps."""
    made = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=made, dtype=torch.float64)
    t = torch.tensor([1.0, 1.0, 0.75, 0.5, 0.5], dtype=torch.float64)
    return x, t, torch.tensor([1.0, 0.25, 0.5, 0.5, 0.25], dtype=torch.float64)


def on_flow(x: Any, t: Any) -> tuple[Any, Any]:
    """Clean latent and noise of the straight line that touches the flow at x."""
    v, time = velocity(x, t), t[:, None, None, None]
    return x - time * v, x + (1 - time) * v


def test_a_step_and_its_estimate_belong_together(drawn: tuple[Any, Any, Any]) -> None:
    x, t, step = drawn
    end = moved(x, exact(x, t, step), t, step)
    torch.testing.assert_close(end, x * deviation(t - step) / deviation(t))
    z, noise = on_flow(x, t)
    torch.testing.assert_close(between(z, noise, t), x)


def test_a_shortcut_of_constant_velocity_is_any_of_its_parts(drawn: tuple[Any, Any, Any]) -> None:
    x, t, step = drawn
    v = torch.randn(SHAPE, dtype=torch.float64)
    wanted = shortcut_target(lambda x, t, _: x - t[:, None, None, None] * v, x, t, step)
    torch.testing.assert_close(wanted, x - t[:, None, None, None] * v)


def test_exact_steps_are_their_own_shortcuts(drawn: tuple[Any, Any, Any]) -> None:
    x, t, step = drawn
    torch.testing.assert_close(shortcut_target(exact, x, t, step), exact(x, t, step))
    halves = exact(x, t, step / 2)
    assert (halves - exact(x, t, step)).abs().max() > 0.01, "which one half alone is not"


def test_a_shortcut_lands_where_two_steps_do(drawn: tuple[Any, Any, Any]) -> None:
    x, t, step = drawn

    def estimate(x: Any, t: Any, step: Any) -> Any:
        return torch.sin(3 * x + (t + step)[:, None, None, None])

    middle = moved(x, estimate(x, t, step / 2), t, step / 2)
    end = moved(middle, estimate(middle, t - step / 2, step / 2), t - step / 2, step / 2)
    wanted = shortcut_target(estimate, x, t, step)
    torch.testing.assert_close(moved(x, wanted, t, step), end)


def test_consistency_of_the_flows_end_errs_by_the_gap_squared(
    drawn: tuple[Any, Any, Any],
) -> None:
    """Two points on a tangent leave the flow by half the gap squared times its curvature."""
    x, t, _ = drawn
    z, noise = on_flow(x, t)

    def end(x: Any, t: Any, _: Any) -> Any:
        return exact(x, t, t)

    errors = [
        float((consistency_target(end, z, noise, t, t, gap) - end(x, t, t)).abs().max())
        for gap in (0.02, 0.01)
    ]
    assert errors[0] < 0.01
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.1)


def test_consistency_begins_at_the_latent_itself(drawn: tuple[Any, Any, Any]) -> None:
    x, t, step = drawn
    noise = torch.randn(SHAPE, dtype=torch.float64)
    asked: list[Any] = []

    def estimate(x: Any, t: Any, step: Any) -> Any:
        asked.append((t, step))
        return x

    wanted = consistency_target(estimate, x, noise, t, step, 1.0)
    torch.testing.assert_close(wanted, x)
    [(times, steps)] = asked
    assert not times.any()
    assert not steps.any()


def test_mean_velocities_obey_the_identity(drawn: tuple[Any, Any, Any]) -> None:
    """The difference replaces a derivative: it errs by half of BACK times the second one."""
    x, t, step = drawn
    z, noise = on_flow(x, t)
    wanted, mine = mean_flow_target(exact, z, noise, t, step), exact(x, t, step)
    assert (wanted - mine).abs().max() < 0.05
    assert (z - mine).abs().max() > 0.2, "the line's own end is not it"


def test_a_straight_line_is_its_own_mean(drawn: tuple[Any, Any, Any]) -> None:
    z, t, step = drawn
    noise = torch.randn(SHAPE, dtype=torch.float64)
    wanted = mean_flow_target(
        lambda x, t, _: x - t[:, None, None, None] * (noise - z), z, noise, t, step
    )
    torch.testing.assert_close(wanted, z)


@pytest.mark.parametrize(
    "target",
    [
        shortcut_target,
        lambda e, z, t, d: consistency_target(e, z, z, t, d, 0.125),
        lambda e, z, t, d: mean_flow_target(e, z, z, t, d),
    ],
    ids=["shortcut", "consistency", "mean_flow"],
)
def test_targets_carry_no_gradient(target: Callable[..., Any], drawn: tuple[Any, Any, Any]) -> None:
    gain = torch.ones((), requires_grad=True)
    wanted = target(lambda x, _, __: gain * x, *drawn)
    assert not wanted.requires_grad
    assert gain.requires_grad


def test_the_bounded_loss_is_square_near_zero_and_straight_beyond() -> None:
    squares = torch.tensor([4.0, 9.0], requires_grad=True)
    loss = pseudo_huber(squares)
    assert loss.item() == pytest.approx(2.5, abs=1e-3)
    loss.backward()
    assert squares.grad.tolist() == pytest.approx([0.125, 1 / 12], rel=1e-3)
    assert pseudo_huber(torch.zeros(3)).item() == pytest.approx(0, abs=1e-9)
