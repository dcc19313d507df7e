from collections.abc import Callable

import pytest

pytest.importorskip("torch")

import torch

from wsicodec.models.blocks import ChannelNorm, ResBlock, sinusoids
from wsicodec.models.summarizer import SummarizerConfig
from wsicodec.models.unet import UNetConfig
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig

Inputs = dict[str, torch.Tensor]
SMALL = ZoomLDMConfig(
    UNetConfig(4, 48, (8, 12, 16), (1, 1, 1), (1, 1, 1), embedding=16, cond=8),
    SummarizerConfig(6, 8, 1),
)


def inputs(count: int, side: int) -> dict[str, torch.Tensor]:
    make = torch.Generator().manual_seed(side)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(count, *shape, generator=make)

    return {
        "x": normal(4, side, side),
        "t": torch.full((count,), 0.6),
        "dt": torch.full((count,), 0.2),
        "parent": normal(3, 4 * side, 4 * side),
        "has_parent": torch.ones(count),
        "cond": normal(7, side // 4, side // 4),
        "mag": torch.arange(count) % 8,
    }


@pytest.fixture
def awake() -> ZoomLDM:
    model = ZoomLDM(SMALL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def test_it_starts_as_the_gaussian_posterior() -> None:
    model = ZoomLDM(SMALL)
    model.deviation.copy_(torch.tensor([[1.0] * 4, [0.5] * 4]))
    given = inputs(3, 8)
    given["t"] = torch.tensor([1.0, 0.6, 1e-3])
    out = model(**given)
    mean = model.guess(torch.nn.functional.pixel_unshuffle(given["parent"], 4))
    torch.testing.assert_close(out[0], mean[0])
    torch.testing.assert_close(out[2], given["x"][2], rtol=0, atol=2e-2)
    gain = 0.4 * 0.25 / (0.16 * 0.25 + 0.36)
    torch.testing.assert_close(out[1], mean[1] + gain * (given["x"][1] - 0.4 * mean[1]))


def test_without_a_parent_its_pixels_do_not_matter(awake: ZoomLDM) -> None:
    given = inputs(2, 8)
    given["has_parent"] = torch.zeros(2)
    other = given | {"parent": torch.zeros_like(given["parent"])}
    assert torch.equal(awake(**given), awake(**other))


def with_more(name: str) -> Callable[[Inputs], Inputs]:
    def change(given: Inputs) -> Inputs:
        more = (given[name] + 1) % 8 if name == "mag" else given[name] * 0.5
        return given | {name: more}

    return change


@pytest.mark.parametrize("name", ["x", "t", "dt", "parent", "has_parent", "cond", "mag"])
def test_every_input_counts(awake: ZoomLDM, name: str) -> None:
    given = inputs(1, 8)
    assert not torch.allclose(awake(**given), awake(**with_more(name)(given)), atol=1e-4)


def test_windows_four_cells_apart_agree(awake: ZoomLDM) -> None:
    given = inputs(1, 96)
    shifted = given | {
        "x": given["x"][..., 4:, 4:],
        "parent": given["parent"][..., 16:, 16:],
        "cond": given["cond"][..., 1:, 1:],
    }
    whole, part = awake(**given), awake(**shifted)
    torch.testing.assert_close(whole[..., 48:52, 48:52], part[..., 44:48, 44:48])


def test_the_default_is_as_small_as_it_says() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = ZoomLDM(ZoomLDMConfig())
        given = {
            "x": torch.empty(1, 16, 32, 32),
            "t": torch.empty(1),
            "dt": torch.empty(1),
            "parent": torch.empty(1, 3, 128, 128),
            "has_parent": torch.empty(1),
            "cond": torch.empty(1, 207, 8, 8),
            "mag": torch.empty(1, dtype=torch.int64),
        }
    with FlopCounterMode(display=False) as counter:
        model(**given)
    assert counter.get_total_flops() <= 1.4e9
    assert 4e6 <= sum(p.numel() for p in model.parameters()) <= 6e6


def test_channel_norm_looks_at_one_pixel_only() -> None:
    x = torch.randn(1, 5, 3, 3)
    whole = ChannelNorm(5)(x)
    torch.testing.assert_close(ChannelNorm(5)(x[..., 1:2, 1:2]), whole[..., 1:2, 1:2])
    torch.testing.assert_close(whole.square().mean(1), torch.ones(1, 3, 3), rtol=1e-3, atol=1e-3)


def test_a_block_does_not_see_where_its_plane_ends() -> None:
    block = ResBlock(8, 4)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    plane = torch.randn(1, 8, 1, 1).expand(-1, -1, 7, 9)
    found = block(plane, torch.randn(1, 4))
    assert not torch.allclose(found, plane)
    torch.testing.assert_close(found, found[..., 3:4, 4:5].expand_as(found))


def test_sinusoids_tell_times_apart() -> None:
    waves = sinusoids(torch.linspace(0, 0.5, 33), 32)
    assert waves.shape == (33, 32)
    distances = torch.cdist(waves, waves) + torch.eye(33) * 9
    assert distances.min() > 0.1


def test_configuration_travels_as_json() -> None:
    assert ZoomLDMConfig.from_json(SMALL.to_json()) == SMALL
