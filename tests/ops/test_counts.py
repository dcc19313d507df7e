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
