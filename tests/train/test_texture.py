"""The loss on octave energies: what it sees and what it does not."""

import pytest

pytest.importorskip("torch")

import torch

from wsicodec.train.texture import chroma, grey, texture_loss

pytestmark = pytest.mark.torch


def tissue(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, 64, 64, generator=generator).expand(2, 3, 64, 64) * 0.1


def test_equal_pictures_cost_nothing_and_places_do_not_matter() -> None:
    assert texture_loss(tissue(0), tissue(0)) == 0
    moved = texture_loss(tissue(0).roll(1, 0), tissue(0))
    assert moved < 0.25 * texture_loss(tissue(0) * 3, tissue(0))


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_too_little_costs_as_much_as_too_much(gain: float) -> None:
    loss = float(texture_loss(tissue(0) * gain, tissue(0)))
    assert 0.5 < loss < 1.5  # log 4 of energies and log 2 of magnitudes, less at the foot


def test_coloured_noise_is_seen_in_chroma_alone() -> None:
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.05
    noise -= grey(noise)
    spoilt = tissue(0) + noise
    assert texture_loss(grey(spoilt), grey(tissue(0))) < 1e-4
    assert texture_loss(chroma(spoilt), chroma(tissue(0))) > 0.5
    assert chroma(tissue(0)).abs().max() < 1e-6
