"""The folded published networks give what the plain ones give."""

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.published.fused import lowered  # noqa: E402
from wsicodec.models.published.fused_unet import FusedUNet  # noqa: E402
from wsicodec.models.published.fused_vq import FusedVqDecoder  # noqa: E402
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig  # noqa: E402
from wsicodec.models.published.vq import VqAutoencoder, VqConfig  # noqa: E402

pytestmark = pytest.mark.torch

SIZES = LdmUNetConfig(
    width=32, multipliers=(1, 2), attention=(False, True), blocks=1, context_width=16
)
# Of the norm of the answer. Both forms round in float32 some hundred times; folds are float64.
CLOSE = 1e-5


def drawn(module: nn.Module) -> Any:
    """Weights that leave nothing out, at a scale that neither dies nor explodes."""
    for parameter in module.parameters():
        wide = parameter.ndim > 1
        std = parameter[0].numel() ** -0.5 if wide else 0.3
        nn.init.normal_(parameter, 0.0 if wide else 0.5, std)
    return module.eval().requires_grad_(requires_grad=False)


def apart(got: Tensor, wanted: Tensor) -> float:
    return float(torch.linalg.norm(got - wanted) / torch.linalg.norm(wanted))


@pytest.mark.parametrize("tables", [0, 8])
def test_the_folded_unet_is_the_unet(tables: int) -> None:
    config = LdmUNetConfig(**{**SIZES.to_json(), "multipliers": (1, 2), "magnifications": tables})
    plain = drawn(LdmUNet(config))
    fused = FusedUNet(plain)
    x, t, context = torch.randn(2, 3, 8, 12), torch.tensor([7, 800]), torch.randn(2, 5, 16)
    magnification = torch.tensor([1, 6]) if tables else None
    wanted = plain(x, t, context, magnification)
    got = fused(x, fused.times(t, magnification), fused.condition(context))
    assert apart(got, wanted) < CLOSE


def test_items_without_a_context_need_none() -> None:
    plain = drawn(LdmUNet(SIZES))
    fused = FusedUNet(plain)
    x, t, context = torch.randn(3, 3, 8, 8), torch.tensor([7, 800, 30]), torch.randn(3, 5, 16)
    context[:2] = 0
    got = fused(x, fused.times(t), fused.condition(context[2:]))
    assert apart(got, plain(x, t, context)) < CLOSE


def test_a_table_of_times_serves_every_item() -> None:
    fused = FusedUNet(drawn(LdmUNet(SIZES)))
    x, told = torch.randn(2, 3, 8, 8), fused.condition(torch.randn(2, 5, 16))
    table = fused.times(torch.tensor([900, 450, 1]))
    one_by_one = fused(x, fused.times(torch.tensor([450, 450])), told)
    torch.testing.assert_close(fused(x, table[1].expand(2, -1), told), one_by_one)


def test_magnifications_are_asked_for_as_by_the_plain_one() -> None:
    fused = FusedUNet(drawn(LdmUNet(SIZES)))
    with pytest.raises(ConfigError, match="take no magnification"):
        fused.times(torch.tensor([1]), torch.tensor([0]))


def test_a_lowered_copy_is_close_and_leaves_the_network_alone() -> None:
    plain = drawn(LdmUNet(SIZES))
    fused = FusedUNet(plain)
    low = lowered(fused, torch.bfloat16)
    x, t, context = torch.randn(1, 3, 8, 8), torch.tensor([300]), torch.randn(1, 5, 16)
    told = low.condition(context.bfloat16())
    assert told.conditions[0].scores_of.dtype == torch.bfloat16
    assert told.conditions[0].offsets.dtype == torch.float32
    got = low(x.bfloat16(), low.times(t), told)
    # Some thirty roundings in series, each at most 2 ** -9 of a value and most of them smaller.
    assert apart(got.float(), plain(x, t, context)) < 5e-2
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    decoder = lowered(FusedVqDecoder(drawn(VqAutoencoder(VqConfig(codes=8, width=32)))), torch.half)
    assert decoder.codes.dtype == torch.float32
    assert decoder.entries.dtype == torch.half


def test_several_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected one head"):
        FusedUNet(LdmUNet(LdmUNetConfig(**{**SIZES.to_json(), "multipliers": (1, 2), "heads": 2})))


def test_the_folded_decoder_is_the_decoder() -> None:
    plain = drawn(VqAutoencoder(VqConfig(codes=64, width=32, multipliers=(1, 1, 2), blocks=1)))
    latent = torch.randn(2, 3, 4, 6)
    assert apart(FusedVqDecoder(plain)(latent), plain.decode(latent)) < CLOSE
