"""A published model draws the same with folded networks as with plain ones."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig  # noqa: E402
from wsicodec.models.published.vq import VqAutoencoder, VqConfig  # noqa: E402
from wsicodec.zoomldm.model import PublishedModel  # noqa: E402

pytestmark = pytest.mark.torch


def model(heads: int, magnifications: int) -> PublishedModel:
    config = LdmUNetConfig(
        width=32,
        multipliers=(1, 2),
        attention=(False, True),
        blocks=1,
        heads=heads,
        context_width=16,
        magnifications=magnifications,
    )
    decoder = VqConfig(codes=64, width=32, multipliers=(1, 1, 2), blocks=1)
    networks: tuple[Any, ...] = (nn.Linear(1, 1), LdmUNet(config), VqAutoencoder(decoder))
    for network in networks:
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        network.eval().requires_grad_(requires_grad=False)
    return PublishedModel((networks[0], networks[1], networks[2]), np.ones(1000), lambda g: g)


@pytest.mark.parametrize(("heads", "magnifications"), [(1, 0), (1, 8), (2, 0)])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_folded_model_estimates_and_decodes_alike(
    heads: int, magnifications: int, scale: float
) -> None:
    made = model(heads, magnifications)
    x, context = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16)
    plain, pixels = made.estimate(context, 3, scale)(x, 400), made.decode_all(x)
    made.fold()
    # float32 through some twenty layers, which the scale magnifies.
    torch.testing.assert_close(
        made.estimate(context, 3, scale)(x, 400), plain, atol=1e-4, rtol=1e-4
    )
    apart = made.decode_all(x).astype(int) - pixels
    assert abs(apart).max() <= 1
    assert (apart != 0).mean() < 0.01


def test_a_context_of_zeros_is_the_null_condition_of_a_folded_model() -> None:
    made = model(1, 0)
    x, zeros = torch.randn(2, 3, 8, 8), torch.zeros(2, 5, 16)
    plain = made.estimate(zeros, 3, 1.0)(x, 400)
    made.fold()
    torch.testing.assert_close(made.estimate(zeros, 3, 1.0)(x, 400), plain, atol=1e-4, rtol=1e-4)


def test_drawings_take_turns_in_the_same_memory() -> None:
    """As several readers do: each has its contexts, and the shapes are the same."""
    made, times = model(1, 8), (400, 200, 400)
    contexts = [torch.randn(2, 5, 16) for _ in range(2)]
    inputs = [[torch.randn(2, 3, 8, 8) for _ in times] for _ in contexts]
    made.fold()
    wanted = [
        [made.estimate(c, 3, 2.0)(x, t) for x, t in zip(given, times, strict=True)]
        for c, given in zip(contexts, inputs, strict=True)
    ]
    made.fold(torch.float32)
    estimates = [made.estimate(c, 3, 2.0) for c in contexts]
    for i, t in enumerate(times):
        for estimate, given, plain in zip(estimates, inputs, wanted, strict=True):
            torch.testing.assert_close(estimate(given[i], t), plain[i], atol=1e-5, rtol=1e-4)
    first = estimates[0](inputs[0][0], 400)
    kept = first.clone()
    estimates[1](inputs[1][0], 400)
    torch.testing.assert_close(first, kept, atol=0, rtol=0)


def test_a_narrow_fold_draws_nearly_the_same_and_answers_exactly_where_asked() -> None:
    made = model(1, 0)
    x, context = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16)
    made.fold()
    plain, latent = made.estimate(context, 0, 2.0)(x, 400), made.pixels(x)
    made.fold(torch.bfloat16)
    narrow = made.estimate(context, 0, 2.0)(x, 400)
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - plain).norm() < 0.05 * plain.norm()
    exact = made.estimate(context, 0, 2.0, exact=True)(x, 400)
    torch.testing.assert_close(exact, plain, atol=0, rtol=0)
    torch.testing.assert_close(made.pixels(x), latent, atol=0, rtol=0)
    assert made.decode_all(x).dtype == np.uint8


@pytest.mark.gpu
def test_a_card_replays_what_the_cpu_computes() -> None:
    made = model(1, 0)
    x, context = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 16)
    made.fold()
    plain = made.estimate(context, 0, 2.0)(x, 400)
    networks = (made.summarizer, made.unet.cuda(), made.autoencoder.cuda())
    card = PublishedModel(networks, np.ones(1000), lambda g: g)
    card.fold(torch.bfloat16)
    estimate = card.estimate(context.cuda(), 0, 2.0)
    for _ in range(2):
        assert (estimate(x.cuda(), 400).cpu() - plain).norm() < 0.05 * plain.norm()
