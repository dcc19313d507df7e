"""Parents as a sketch shows them: on a card as at home, and coarse."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from wsicodec.models.sketch import SMOOTH
from wsicodec.train.card import parents as card
from wsicodec.train.parents import sketched

pytestmark = pytest.mark.torch
SIDE = 96


def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)


def test_a_card_makes_what_home_makes() -> None:
    rgb = pictures()
    home = np.stack([sketched(np.random.default_rng(0), part, 0.0) for part in rgb])
    parent = torch.from_numpy(rgb).permute(0, 3, 1, 2)
    found = card.sketched(parent, torch.zeros(2, 1, 1, 1), torch.Generator())
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), home, atol=1e-3)


@pytest.mark.parametrize("grain", [0.0, 10.0])
def test_detail_is_gone_and_grain_has_its_deviation(grain: float) -> None:
    flat = np.full((SIDE, SIDE, 3), 128, np.float32)
    flat[::2] += 60
    found = sketched(np.random.default_rng(0), flat, grain)
    assert found.mean() == pytest.approx(158, abs=0.5)
    assert found[..., 1].std() == pytest.approx(grain, abs=1e-2)
    assert SIDE % (1 << SMOOTH) == 0
