"""Where embeddings go in the published summarizers, and what may not enter."""

import math

import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.published import grids  # noqa: E402
from wsicodec.models.published.cnn_summarizer import (  # noqa: E402
    CnnSummarizer,
    CnnSummarizerConfig,
    block_strides,
)
from wsicodec.models.published.vit_summarizer import (  # noqa: E402
    Block,
    VitSummarizer,
    VitSummarizerConfig,
    occupied_slots,
)

pytestmark = pytest.mark.torch

VIT = VitSummarizerConfig(embedding_width=6, width=16, depth=2, heads=2, mlp_ratio=2)
CNN = CnnSummarizerConfig(embedding_width=32, widths=(32, 32, 64, 64), film_width=8)


@pytest.mark.parametrize(
    ("side", "slots"), [(1, (32, 33)), (2, (30, 34)), (4, (24, 40)), (8, (0, 64))]
)
def test_slots_are_the_ones_of_the_release(side: int, slots: tuple[int, int]) -> None:
    assert occupied_slots(side, side) == slots


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (16, 16), (0, 4)])
def test_what_the_release_fails_on_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected a grid"):
        occupied_slots(*shape)


def test_embeddings_are_laid_down_row_by_row_between_pads() -> None:
    net = VitSummarizer(VIT)
    torch.nn.init.normal_(net.pad_token)
    grid = torch.randn(2, 6, 2, 4)
    placed = net.place(grid)
    assert placed.shape == (2, 64, 16)
    for y in range(2):
        for x in range(4):
            torch.testing.assert_close(placed[:, 28 + 4 * y + x], net.dim_reduce(grid[:, :, y, x]))
    for slot in (0, 27, 36, 63):
        assert torch.equal(placed[:, slot], net.pad_token[0].expand(2, -1))


def test_a_block_is_the_pre_norm_layer_of_pytorch() -> None:
    ours, theirs = (
        Block(VIT).eval(),
        torch.nn.TransformerEncoderLayer(
            16, 2, 32, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ),
    )
    names = {"linear1": "mlp.0", "linear2": "mlp.3", "norm1": "ln_1", "norm2": "ln_2"}
    state = {
        ".".join((names.get(a, "self_attention" if a == "self_attn" else a), *rest)): tensor
        for a, *rest, tensor in ((*k.split("."), v) for k, v in theirs.state_dict().items())
    }
    ours.load_state_dict(state)
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(ours(x), theirs(x))  # training mode: no fused path, dropout is 0


def test_65_normalised_tokens_whose_first_knows_the_magnification() -> None:
    net = VitSummarizer(VIT).eval()
    grid = torch.randn(1, 6, 4, 4)
    fine, coarse = (net(grid, torch.tensor([m])) for m in (0, 7))
    assert fine.shape == (1, 65, 16)
    assert not torch.allclose(fine[:, 0], coarse[:, 0], atol=1e-3)
    # LayerNorm's own affine starts as the identity; its epsilon of 1e-5 moves the deviation.
    assert fine.mean(-1).abs().max() < 1e-5
    assert fine.std(-1, correction=0).sub(1).abs().max() < 1e-2


@pytest.mark.parametrize(
    ("side", "strides"),
    [(1, (1, 1, 1, 1)), (8, (1, 1, 1, 1)), (16, (2, 1, 1, 1)), (128, (2, 2, 2, 2))],
)
def test_the_cnn_gives_64_tokens_for_every_magnification(
    side: int, strides: tuple[int, ...]
) -> None:
    assert block_strides(side, side) == strides
    net = CnnSummarizer(CNN).eval()
    assert net(torch.randn(2, 32, side, side), torch.tensor([1, 5])).shape == (2, 64, 64)


@pytest.mark.parametrize("shape", [(3, 3), (4, 8), (256, 256), (0, 0)])
def test_the_cnn_refuses_other_grids(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="power of two up to 128"):
        block_strides(*shape)


def test_cells_of_the_cnn_lie_row_by_row() -> None:
    net = CnnSummarizer(CNN).eval()  # its second convolutions start at zero: only skips speak
    grid, mag = torch.randn(1, 32, 8, 8), torch.tensor([3])
    touched = grid.clone()
    touched[:, :, 1, 5] += 1
    changed = (net(touched, mag) - net(grid, mag)).abs().amax(-1)[0] > 1e-6
    assert changed.nonzero().flatten().tolist() == [8 * 1 + 5]
    quadrant = net(torch.randn(1, 32, 2, 2), mag).view(8, 8, 64)
    assert torch.equal(quadrant[0, 4], quadrant[3, 7])
    assert not torch.allclose(quadrant[0, 3], quadrant[0, 4])


def test_the_magnification_modulates_the_cnn_once_film_is_trained() -> None:
    net, grid = CnnSummarizer(CNN).eval(), torch.randn(1, 32, 8, 8)
    fine, coarse = torch.tensor([0]), torch.tensor([7])
    assert torch.equal(net(grid, fine), net(grid, coarse))
    for name, parameter in net.named_parameters():
        if name.endswith(("film.weight", "conv2.weight")):
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(net(grid, fine), net(grid, coarse))


def test_pooling_averages_whole_cells_and_leaves_small_grids() -> None:
    grid = torch.arange(16.0 * 32).view(1, 1, 16, 32)
    pooled = grids.pool(grid)
    assert pooled.shape == (1, 1, 8, 8)
    assert pooled[0, 0, 1, 2] == grid[0, 0, 2:4, 8:12].mean()
    small = torch.randn(1, 2, 4, 8)
    assert grids.pool(small) is small
    with pytest.raises(ConfigError, match="multiples"):
        grids.pool(torch.zeros(1, 1, 12, 8))


def test_standardising_works_in_single_precision_and_survives_constants() -> None:
    grid = torch.randn(1, 50, 2, 2).half() * 3 + 7
    grid[:, :, 0, 0] = 5
    found = grids.standardise(grid)
    assert found.dtype == torch.float32
    assert torch.equal(found[:, :, 0, 0], torch.zeros(1, 50))
    rest = found[:, :, 1]
    torch.testing.assert_close(rest.mean(1), torch.zeros(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(rest.std(1), torch.ones(1, 2), atol=1e-5, rtol=0)


def test_lengths_are_one_or_nought() -> None:
    grid = torch.zeros(1, 2, 1, 2)
    grid[0, :, 0, 1] = torch.tensor([3.0, 4.0])
    lengths = grids.normalise_length(grid).norm(dim=1)
    assert lengths[0, 0].tolist() == [0, pytest.approx(1, abs=2 * math.ulp(1))]


def test_settings_travel() -> None:
    assert VitSummarizerConfig.from_json(VIT.to_json()) == VIT
    assert CnnSummarizerConfig.from_json(CNN.to_json()) == CNN
