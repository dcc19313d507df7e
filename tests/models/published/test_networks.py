"""The published networks against the published facts; full sizes live on the meta device alone."""

from collections.abc import Callable
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tests.checks import published_shapes  # noqa: E402
from wsicodec.models.published.cnn_summarizer import CnnSummarizer, CnnSummarizerConfig  # noqa: E402
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig  # noqa: E402
from wsicodec.models.published.vit_summarizer import (  # noqa: E402
    VitSummarizer,
    VitSummarizerConfig,
)
from wsicodec.models.published.vq import VqAutoencoder, VqConfig  # noqa: E402
from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402

pytestmark = pytest.mark.torch

BUILD: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: LdmUNet(LdmUNetConfig()),
    "vq_f4": lambda: VqAutoencoder(VqConfig()),
    "vit_summarizer": lambda: VitSummarizer(VitSummarizerConfig()),
    "hipt_vit256": lambda: VisionTransformer(VitConfig()),
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return BUILD[name]()


def giga_flops(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops()) / 1e9


@pytest.mark.parametrize(
    ("name", "total", "tensors"),
    [
        ("unet", 400_920_579, 688),
        ("vq_f4", 55_322_782, 205),
        ("vit_summarizer", 38_656_000, 155),
        ("hipt_vit256", 21_665_664, 150),
    ],
)
def test_names_shapes_and_totals_are_the_published_ones(
    name: str, total: int, tensors: int
) -> None:
    module = on_meta(name)
    ours = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    assert ours == published_shapes()[name]
    assert len(ours) == tensors
    assert sum(parameter.numel() for parameter in module.parameters()) == total


def test_one_forward_costs_what_was_published() -> None:
    """Within 0.5 % of the figures, which were counted on other code for the same networks."""
    meta = torch.device("meta")
    latent, context = torch.empty(1, 3, 64, 64, device=meta), torch.empty(1, 65, 512, device=meta)
    step, image = torch.empty(1, device=meta), torch.empty(1, 3, 256, 256, device=meta)
    unet, vq, vit = on_meta("unet"), on_meta("vq_f4"), on_meta("hipt_vit256")
    assert isinstance(vq, VqAutoencoder)
    assert giga_flops(lambda: unet(latent, step, context)) == pytest.approx(210.6, rel=0.005)
    assert giga_flops(lambda: vq.encode(image)) == pytest.approx(345.2, rel=0.005)
    assert giga_flops(lambda: vq.decode(latent)) == pytest.approx(670.6, rel=0.005)
    assert giga_flops(lambda: vit(image)) == pytest.approx(12.28, rel=0.005)


def test_the_summarizers_cost_what_was_counted() -> None:
    meta = torch.device("meta")
    magnification = torch.zeros(1, dtype=torch.int64, device=meta)
    vit = on_meta("vit_summarizer")
    grid = torch.empty(1, 1024, 8, 8, device=meta)
    assert giga_flops(lambda: vit(grid, magnification)) == pytest.approx(5.1, rel=0.02)
    with meta:
        wide = CnnSummarizer(CnnSummarizerConfig())
        narrow = CnnSummarizer(CnnSummarizerConfig(widths=(384, 384, 512, 512)))
        grid = torch.empty(1, 384, 128, 128)
    for module, millions, giga in ((wide, 20.47, 48.8), (narrow, 15.98, 31.5)):
        total = sum(parameter.numel() for parameter in module.parameters())
        assert total / 1e6 == pytest.approx(millions, abs=0.01)
        cost = giga_flops(partial(module, grid, magnification))
        assert cost == pytest.approx(giga, rel=0.005)
