"""The critic and what it is asked."""

import pytest

torch = pytest.importorskip("torch")

from wsicodec.train.adversary import (  # noqa: E402
    Critic,
    flatness_loss,
    matching_loss,
    pairing_loss,
)

pytestmark = pytest.mark.torch


def test_places_are_scored_at_three_scales() -> None:
    torch.manual_seed(0)
    rgb, cond = torch.rand(2, 3, 64, 64) * 2 - 1, torch.randn(2, 5, 8, 8)
    critic = Critic(5, 8)
    scores = critic(rgb, cond, torch.tensor([0, 1]))
    assert [tuple(s.shape) for s in scores] == [(2, 1, 32, 32), (2, 1, 16, 16), (2, 1, 8, 8)]
    told = critic(rgb, cond + 1, torch.tensor([0, 1]))
    assert torch.equal(scores[1], told[1])
    assert not torch.equal(scores[2], told[2])


def test_detail_reaches_the_critic_louder_than_colour() -> None:
    torch.manual_seed(0)
    critic, mag = Critic(5, 8), torch.zeros(1, dtype=torch.int64)
    cond = torch.zeros(1, 5, 8, 8)
    plain = torch.zeros(1, 3, 64, 64)
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 0.05
    stripes[..., 1::2] = -0.05
    with torch.no_grad():
        seen, tinted, striped = (
            critic.features(x, cond, mag)[0][..., 4:-4, 4:-4]
            for x in (plain, plain + 0.05, stripes)
        )
    assert (striped - seen).abs().mean() > 2 * (tinted - seen).abs().mean()


def test_losses_are_least_where_they_should_be() -> None:
    high, low = [torch.full((1, 1, 2, 2), 3.0)], [torch.full((1, 1, 2, 2), -3.0)]
    assert pairing_loss(high, low) < pairing_loss(high, high) < pairing_loss(low, high)
    assert pairing_loss(high, high).item() == pytest.approx(0.6931, abs=1e-4)
    assert flatness_loss(high, high) == 0
    assert flatness_loss(high, low) == 36
    assert matching_loss(high, high) == 0
    assert matching_loss(low, high) == 2
