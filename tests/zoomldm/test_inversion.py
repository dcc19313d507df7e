"""Inverting a condition where the answer is known, and super-resolution's shape."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from tests.zoomldm import stubs  # noqa: E402
from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.published.grids import standardise  # noqa: E402
from wsicodec.zoomldm.inversion import (  # noqa: E402
    InversionRecipe,
    invert_condition,
    super_resolve,
)
from wsicodec.zoomldm.joint import JointRecipe, numbered_noise  # noqa: E402

pytestmark = pytest.mark.torch
SHAPE = (3, stubs.SIDE, stubs.SIDE)


class Painter(nn.Module):
    """The exact noise for data that is one picture: each quarter in its own token's colours."""

    def __init__(self) -> None:
        super().__init__()
        self.config = stubs.Gaussian().config
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor, t: Tensor, context: Tensor, told: object = None) -> Tensor:
        kept = torch.tensor(stubs.TABLE, dtype=x.dtype)[t][:, None, None, None]
        side = round(context.shape[1] ** 0.5)
        clean = context[:, :, :3].transpose(1, 2).unflatten(2, (side, side)) / 4
        clean = clean.repeat_interleave(16 // side, 2).repeat_interleave(16 // side, 3)
        noise: Tensor = (x - kept.sqrt() * clean) / (1 - kept).sqrt()
        return noise


def test_the_embeddings_that_drew_a_picture_are_found_again() -> None:
    truth = np.random.default_rng(0).normal(size=(2, 2, 6)).astype(np.float32)
    normal = standardise(torch.from_numpy(truth.transpose(2, 0, 1))[None])
    colours = normal[0, :3].permute(1, 2, 0).numpy() / 4
    picture = np.clip((colours + 1) * 127.5, 0, 255).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    model = stubs.model(width=6, unet=Painter(), normalise=standardise)
    noise = numbered_noise(1, SHAPE)
    found = invert_condition(model, picture, 1, noise, InversionRecipe(iterations=100, pull=0.0))
    assert found.shape == (2, 2, 6)
    again = standardise(torch.from_numpy(found.transpose(2, 0, 1).copy())[None])
    # A byte is 1/32 of a token's unit here; Adam's last steps are of its rate.
    np.testing.assert_allclose(again[0, :3], normal[0, :3], atol=0.15)


def test_the_pull_brings_embeddings_together() -> None:
    picture = np.full((16, 16, 3), 128, np.uint8)
    model = stubs.model(width=6, unet=Painter(), normalise=standardise)

    def spread(pull: float) -> float:
        recipe = InversionRecipe(iterations=60, pull=pull)
        found = invert_condition(model, picture, 1, numbered_noise(1, SHAPE), recipe)
        flat = found.reshape(4, 6) / np.linalg.norm(found.reshape(4, 6), axis=1, keepdims=True)
        return float((flat @ flat.T).mean())

    assert spread(5.0) > spread(0.0) + 0.2


def test_super_resolution_gives_the_children_of_a_real_picture() -> None:
    picture = np.random.default_rng(0).integers(60, 200, (16, 16, 3)).astype(np.uint8)
    model = stubs.model(deviation=0.3, width=6)
    drawn = super_resolve(
        model,
        picture,
        1,
        numbered_noise(2, SHAPE),
        InversionRecipe(iterations=5),
        JointRecipe(rounds=5, scale=1.0, stride=100),
    )
    assert drawn.mosaic.shape == (32, 32, 3)
    blocks = drawn.mosaic.reshape(16, 2, 16, 2, 3).mean((1, 3))
    assert np.corrcoef(blocks.ravel(), picture.ravel().astype(float))[0, 1] > 0.6


@pytest.mark.parametrize("level", [0, 4])
def test_levels_that_cannot_be_inverted_are_refused(level: int) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(ConfigError, match="from 1 to 3"):
        invert_condition(stubs.model(), picture, level, numbered_noise(0, SHAPE))
