"""Folded forms equal the forms that they are folded from, within 1e-5 in float32."""

import csv
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from wsicodec import ops  # noqa: E402
from wsicodec.models.published.attention import Attention  # noqa: E402
from wsicodec.ops import folds  # noqa: E402

pytestmark = pytest.mark.torch

# Each side sums at most a thousand products in float32: 2 ** -24 times the root of that, twice.
CLOSE = 1e-5


def test_folds_were_faster_in_plain_torch_wherever_they_were_timed() -> None:
    """The committed ratios; `python -m benchmarks.kernel_speed_cpu` measures them again."""
    from benchmarks.record import RESULTS

    with (RESULTS / "kernel_speed_cpu.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "plain_over_folded"]
    assert {"conditioning", "self-attention", "doubling", "U-Net", "VQ-f4 decoder"} == {
        row["subject"] for row in rows
    }
    assert all(float(row["value"]) > 1 for row in rows)


def apart(got: Tensor, wanted: Tensor) -> float:
    return float(torch.linalg.norm(got - wanted) / torch.linalg.norm(wanted))


@pytest.mark.parametrize("tokens", [3, 65])
def test_folded_cross_attention_is_cross_attention(tokens: int) -> None:
    layer: Any = Attention(96, 40, heads=1).requires_grad_(requires_grad=False)
    weight, bias = torch.rand(96) + 0.5, torch.randn(96)
    x, context = 2 * torch.randn(3, 17, 96) + 1, torch.randn(3, tokens, 40)
    context[0] = 0
    wanted = x + layer(F.layer_norm(x, (96,), weight, bias), context)
    out = layer.to_out[0]
    matrices = folds.fold_projections(
        layer.to_q.weight, layer.to_k.weight, layer.to_v.weight, out.weight, (weight, bias)
    )
    told = folds.fold_condition(context[1:], matrices, out.bias)
    got, normal = ops.condition(x, told, weight, bias)
    assert apart(got, wanted) < CLOSE
    assert apart(normal, F.layer_norm(wanted, (96,), weight, bias)) < CLOSE


def test_an_item_without_context_gets_the_bias_exactly() -> None:
    told = folds.Condition(
        torch.empty(0, 32, 16), torch.empty(0, 16), torch.empty(0, 16), torch.empty(0, 16, 32),
        torch.randn(32), 9,
    )  # fmt: skip
    x = torch.randn(2, 5, 32)
    got, _ = ops.condition(x, told, torch.ones(32), torch.zeros(32))
    assert torch.equal(got, x + told.bias)


def test_column_sums_and_offsets_fold_the_layer_norm() -> None:
    """The kernel's form: LN(x) A = (x A' - mean colsum(A')) / deviation + offsets."""
    weight, bias, x = torch.rand(24) + 0.5, torch.randn(24), torch.randn(1, 7, 24) + 3
    q, out = torch.randn(24, 24), torch.randn(24, 24)
    k, v = torch.randn(24, 10), torch.randn(24, 10)
    matrices = folds.fold_projections(q, k, v, out, (weight, bias))
    told = folds.fold_condition(torch.randn(1, 4, 10), matrices, torch.zeros(24))
    mean, deviation = x.mean(-1, keepdim=True), (x.var(-1, correction=0) + 1e-5).sqrt()[..., None]
    got = (x @ told.scores_of - mean * told.sums[:, None]) / deviation + told.offsets[:, None]
    plain = F.layer_norm(x, (24,)) @ told.scores_of + told.offsets[:, None]
    torch.testing.assert_close(got, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("biased", [False, True])
def test_folded_self_attention_is_self_attention(biased: bool) -> None:
    def layer() -> tuple[Tensor, Tensor]:
        return torch.randn(48, 48) / 7, torch.randn(48) if biased else torch.zeros(48)

    q, k, v, out = layer(), layer(), layer(), layer()
    n = torch.randn(2, 13, 48)
    three = [F.linear(n, *p)[:, None] for p in (q, k, v)]
    mixed = F.scaled_dot_product_attention(three[0], three[1], three[2])[:, 0]
    given = (q, v) if biased else ((q[0], None), (v[0], None))
    folded = folds.fold_self_attention(given[0], k[0], given[1], out)
    both = F.linear(n, folded.weight, folded.bias)
    got = ops.attention(both[..., :48], n, both[..., 48:], bias=folded.out_bias)
    assert apart(got, F.linear(mixed, *out)) < CLOSE


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (8, 4)])
def test_parity_convolutions_are_the_convolution_of_the_doubled_map(
    height: int, width: int
) -> None:
    x, weight, bias = torch.randn(2, 6, height, width), torch.randn(5, 6, 3, 3), torch.randn(5)
    wanted = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)
    got = ops.upsample_conv(x, folds.fold_upsample(weight), bias)
    assert got.shape == wanted.shape
    assert apart(got, wanted) < 1e-6
