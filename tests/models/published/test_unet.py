"""What the published U-Net computes, at reduced width."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.published.attention import Attention, SpatialTransformer  # noqa: E402
from wsicodec.models.published.unet import (  # noqa: E402
    LdmUNet,
    LdmUNetConfig,
    ResBlock,
    step_sinusoids,
)

pytestmark = pytest.mark.torch

SMALL = LdmUNetConfig(
    width=32, multipliers=(1, 2), attention=(False, True), blocks=1, context_width=16
)


def started(**changes: Any) -> LdmUNet:
    """A small network without the zeros that training starts from."""
    config = LdmUNetConfig(**{**SMALL.to_json(), **changes, "multipliers": (1, 2)})
    net = LdmUNet(config).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net


def test_attention_is_softmax_of_products_per_head() -> None:
    attend = Attention(12, 5, heads=3)
    x, context = torch.randn(2, 7, 12), torch.randn(2, 4, 5)
    q, k, v = attend.to_q(x), attend.to_k(context), attend.to_v(context)
    heads = []
    for h in range(3):
        part = slice(4 * h, 4 * h + 4)
        weights = torch.softmax(q[..., part] @ k[..., part].mT / 2.0, -1)
        heads.append(weights @ v[..., part])
    expected = attend.to_out[0](torch.cat(heads, -1))
    torch.testing.assert_close(attend(x, context), expected)


def test_a_context_of_zeros_gives_the_bias_of_the_output_exactly() -> None:
    attend = Attention(24, 16, heads=1)
    out = attend(torch.randn(2, 9, 24), torch.zeros(2, 65, 16))
    assert torch.equal(out, attend.state_dict()["to_out.0.bias"].expand_as(out))


def test_a_spatial_transformer_moves_with_its_cells() -> None:
    """Cells are told apart by content alone, so a rolled map gives the rolled answer."""
    layer = SpatialTransformer(32, 16, 1).eval()
    x, context = torch.randn(1, 32, 4, 6), torch.randn(1, 3, 16)
    rolled = layer(x.roll((1, 2), (2, 3)), context)
    torch.testing.assert_close(rolled, layer(x, context).roll((1, 2), (2, 3)))


def test_blocks_start_as_their_skip() -> None:
    block, x = ResBlock(32, 32, 128), torch.randn(1, 32, 4, 4)
    assert torch.equal(block(x, torch.randn(1, 128)), x)


def test_sinusoids_are_cosines_first_and_slow_down_to_the_period() -> None:
    found = step_sinusoids(torch.tensor([0.0, 500.0]), 8)
    assert found[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    angles = 500.0 / 10.0 ** torch.arange(4.0)  # 10000 ** (i / 4)
    # Angles of some hundreds in float32 carry an error of 500 * 2 ** -24 each.
    torch.testing.assert_close(found[1], torch.cat((angles.cos(), angles.sin())), atol=1e-4, rtol=0)


def test_it_hears_step_and_context_and_keeps_items_apart() -> None:
    net = started()
    x, t = torch.randn(2, 3, 8, 12), torch.tensor([3, 700])
    context = torch.randn(2, 5, 16)
    both = net(x, t, context)
    assert both.shape == x.shape
    torch.testing.assert_close(net(x[1:], t[1:], context[1:]), both[1:], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(net(x, t + 40, context), both, atol=1e-4)
    assert not torch.allclose(net(x, t, context + 1), both, atol=1e-4)


def test_a_magnification_table_starts_silent_and_is_asked_for() -> None:
    net, x, t, context = (
        LdmUNet(LdmUNetConfig(**{**SMALL.to_json(), "multipliers": (1, 2), "magnifications": 8})),
        torch.randn(1, 3, 8, 8),
        torch.tensor([10]),
        torch.randn(1, 5, 16),
    )
    assert net.state_dict()["label_emb.weight"].shape == (8, 128)
    torch.nn.init.normal_(net.out[2].weight)
    fine, coarse = torch.tensor([0]), torch.tensor([7])
    assert torch.equal(net(x, t, context, fine), net(x, t, context, coarse))
    torch.nn.init.normal_(net.label_emb.weight)
    for block in net.modules():
        if isinstance(block, ResBlock):
            torch.nn.init.normal_(block.out_layers[3].weight)
    assert not torch.allclose(net(x, t, context, fine), net(x, t, context, coarse))
    with pytest.raises(ConfigError, match="take a magnification"):
        net(x, t, context)
    with pytest.raises(ConfigError, match="take no magnification"):
        started()(x, t, context, fine)


def test_settings_travel_and_impossible_ones_are_refused() -> None:
    assert LdmUNetConfig.from_json(SMALL.to_json()) == SMALL
    with pytest.raises(ConfigError, match="flag per grid"):
        LdmUNetConfig(attention=(True,))
    with pytest.raises(ConfigError, match="divisible by 32"):
        LdmUNetConfig(width=100)
