"""Stain statistics: what they measure, and where the transformer puts them."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from wsicodec.errors import ConfigError
from wsicodec.models.octaves import OCTAVES
from wsicodec.models.stain_colours import FAINTEST
from wsicodec.models.stain_statistics import (
    STATISTICS,
    TINT,
    StainStatistics,
    measured,
    octave_energies,
    optical_density,
)
from wsicodec.models.vit import VisionTransformer, VitConfig

pytestmark = pytest.mark.torch
TOLD = VitConfig(width=24, depth=1, heads=3, patch=16, train_size=64, statistics=STATISTICS)


def images(count: int = 4, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, side, side, generator=generator) * 2 - 1


def test_mean_densities_are_those_of_the_pixels() -> None:
    rgb = images()
    light = (rgb.numpy().astype(np.float64) + 1) / 2 * (255 / 256) + 1 / 256
    wanted = -np.log(light).mean((2, 3))
    np.testing.assert_allclose(measured(rgb)[:, :3].numpy(), wanted, rtol=1e-5)


def test_a_checkerboard_lies_in_the_finest_octave_alone() -> None:
    board = torch.ones(1, 3, 16, 16)
    board[..., ::2, ::2] = board[..., 1::2, 1::2] = 0.0
    energies = [e.mean() for e in octave_energies(optical_density(board))]
    half = float(optical_density(torch.zeros(1))) / 2
    assert energies[0] == pytest.approx(half**2, rel=1e-5)
    assert max(energies[1:]) < 1e-10
    logs = measured(board)[0, 3 + TINT :].reshape(OCTAVES, -1)
    assert logs[1:].allclose(torch.tensor(FAINTEST).log())


def test_amount_of_stain_leaves_the_hue() -> None:
    pale, strong = (torch.full((1, 3, 32, 32), 0.0) for _ in range(2))
    for channel, density in enumerate((0.6, 0.9, 0.4)):
        pale[:, channel] = 2 * np.exp(-density) - 1
        strong[:, channel] = 2 * np.exp(-2 * density) - 1
    hues = [measured(rgb)[0, 3:5] for rgb in (pale, strong)]
    assert (measured(strong) - measured(pale))[0, :3].min() > 0.3
    assert (hues[0] - hues[1]).abs().max() < 0.6  # ratios, but for 0.1 of density in their feet


def test_fitted_statistics_are_white() -> None:
    values = torch.randn(500, STATISTICS, dtype=torch.float64) @ torch.randn(
        STATISTICS, STATISTICS, dtype=torch.float64
    )
    statistics = StainStatistics()
    statistics.fit(values, deviation=2.0)
    white = (values.float() - statistics.centre) @ statistics.scale.T
    torch.testing.assert_close(torch.cov(white.T), 4 * torch.eye(STATISTICS), atol=1e-2, rtol=0)


def test_what_does_not_vary_is_not_told() -> None:
    values = torch.randn(200, STATISTICS)
    values[:, 5] = values[:, 6]
    statistics = StainStatistics()
    statistics.fit(values, deviation=1.0)
    assert (statistics.scale.abs().sum(1) == 0).sum() == 1


def test_they_stand_behind_the_class_token() -> None:
    model = VisionTransformer(TOLD).eval()
    assert model.stains is not None
    with torch.no_grad():
        out = model(images())
        assert out.shape == (4, TOLD.embedding_width) == (4, 24 + STATISTICS)
        assert torch.equal(out[:, :24], model.token(images()))
        assert torch.equal(out[:, 24:], model.stains(images()))


def test_another_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=f"0 or {STATISTICS}"):
        VitConfig(statistics=3)
