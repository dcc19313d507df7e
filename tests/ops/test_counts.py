"""Launches and products of the released networks, counted on shapes alone."""

import importlib.util

import pytest

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]


def test_the_released_unet_takes_at_most_380_launches_and_91_percent_of_the_products() -> None:
    from benchmarks.kernel_counts import measure, unet_runs

    runs = unet_runs()
    plain, plain_flops = measure(runs["plain"])
    fused, flops = measure(runs["fused"])
    assert 650 < plain.total() < 900  # 656 with one op for attention, 848 without
    assert plain_flops == pytest.approx(210.6e9, rel=1e-3)
    assert fused.total() <= 380, fused
    assert flops <= 0.91 * plain_flops


def test_the_published_decoder_takes_fewer_of_both() -> None:
    from benchmarks.kernel_counts import decoder_runs, measure

    runs = decoder_runs()
    plain, plain_flops = measure(runs["plain"])
    fused, flops = measure(runs["fused"])
    assert fused.total() < plain.total()
    assert flops <= (1 - 85.9 / 670.6) * plain_flops  # both doublings: four ninths of 154.6 GFLOP


@pytest.mark.parametrize(("steps", "most"), [(1, 240), (4, 490)])
def test_a_batch_of_small_is_one_graph_of_few_launches(steps: int, most: int) -> None:
    """Noise, colours and bytes included, which the plain networks leave to the host."""
    from benchmarks.kernel_counts import measure, small_runs

    runs = small_runs(steps)
    plain, plain_flops = measure(runs["plain"])
    fused, flops = measure(runs["fused"])
    assert fused.total() <= most, fused
    assert fused.total() < plain.total(), plain
    assert flops <= 1.05 * plain_flops  # channels are filled up to whole lanes
    assert fused["blend_windows"] == 1
    assert fused["guided_step"] == steps
