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
