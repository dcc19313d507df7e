"""Joint sampling on Gaussian data: its variances in closed form, and its constraint met."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.zoomldm import stubs  # noqa: E402
from wsicodec.diffusion.trained_steps import way_from_end  # noqa: E402
from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.zoomldm.joint import (  # noqa: E402
    JointRecipe,
    ancestral_step,
    cut,
    numbered_noise,
    resize,
    sample_jointly,
)

pytestmark = pytest.mark.torch
SHAPE = (3, stubs.SIDE, stubs.SIDE)
CHILDREN = [np.zeros((1, 1, 3), np.float32)] * 4
COARSE = np.zeros((2, 2, 3), np.float32)


@pytest.mark.parametrize("stride", [50, 200])
def test_a_step_adds_as_much_variance_as_the_closed_form_says(stride: int) -> None:
    """For data N(0, 1) every x_t is N(0, 1), and eps = sqrt(1 - ab) x exactly."""
    way = way_from_end(stride, stubs.TABLE)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 3, 256, 256, generator=generator)
    variance = 1.0
    for here, there in zip(way.alpha_bar[:-1], way.alpha_bar[1:], strict=True):
        fresh = torch.randn(x.shape, generator=generator)
        x = ancestral_step(x, (1 - here) ** 0.5 * x, here, there, fresh)
        added = (1 - there) / (1 - here) * (1 - here / there)
        gain = (here * there) ** 0.5 + ((1 - there - added) * (1 - here)) ** 0.5
        variance = gain**2 * variance + added
        # 196,608 samples tell a variance to 2 / sqrt(2 n) = 0.3 % at two deviations.
        assert float(x.var()) == pytest.approx(variance, rel=0.015)
        assert variance < 1.001


def test_the_notebooks_formula_would_add_too_much() -> None:
    here, there = float(stubs.TABLE[499]), float(stubs.TABLE[449])
    added = (1 - there) / (1 - here) * (1 - here / there)
    clean = (here * there) ** 0.5
    ours = (clean + ((1 - there - added) * (1 - here)) ** 0.5) ** 2 + added
    theirs = (clean + ((1 - there) * (1 - here)) ** 0.5) ** 2 + added
    assert ours <= 1 < theirs


def test_children_make_up_the_picture_that_they_lie_under() -> None:
    rng = np.random.default_rng(0)
    small = rng.integers(60, 200, (4, 4, 3)).astype(np.uint8)
    picture = small.repeat(4, 0).repeat(4, 1)
    model = stubs.model(deviation=0.5)
    noise = numbered_noise(7, SHAPE)
    errors = {}
    for rounds in (0, 10):
        recipe = JointRecipe(rounds=rounds, scale=1.0, batch=3)
        drawn = sample_jointly(model, picture, CHILDREN, 1, noise, recipe)
        np.testing.assert_array_equal(drawn.coarse, picture)
        mosaic = torch.from_numpy(drawn.mosaic.transpose(2, 0, 1).astype(np.float32))[None]
        error = resize(mosaic, 16)[0].permute(1, 2, 0).numpy() - picture
        errors[rounds] = float(np.sqrt(np.square(error).mean()))
    assert errors[10] < 0.5 * errors[0]


def test_a_drawn_coarse_patch_is_followed_too_and_grouping_changes_nothing() -> None:
    model, noise = stubs.model(deviation=0.5), numbered_noise(7, SHAPE)
    runs = [
        sample_jointly(
            model, COARSE, CHILDREN, 1, noise, JointRecipe(rounds=4, scale=1.0, batch=batch)
        )
        for batch in (1, 4)
    ]
    # Rounding alone may differ between batches, and at an edge of a byte shows.
    assert (np.abs(runs[0].mosaic.astype(int) - runs[1].mosaic) <= 1).all()
    assert runs[0].mosaic.shape == (32, 32, 3)
    blocks = runs[0].mosaic.reshape(16, 2, 16, 2, 3).mean((1, 3))
    likeness = np.corrcoef(blocks.ravel(), runs[0].coarse.ravel().astype(float))[0, 1]
    assert likeness > 0.5


def test_tiles_are_cut_row_by_row() -> None:
    picture = torch.arange(16.0).reshape(1, 1, 4, 4)
    tiles = cut(picture, 2)
    assert tiles[1, 0].tolist() == [[2, 3], [6, 7]]
    assert tiles[2, 0].tolist() == [[8, 9], [12, 13]]


def test_children_of_another_number_are_refused() -> None:
    noise = numbered_noise(0, SHAPE)
    with pytest.raises(ConfigError, match="expected the 16 children"):
        sample_jointly(stubs.model(), COARSE, CHILDREN, 2, noise)
    with pytest.raises(ConfigError, match="expected the 4 children"):
        sample_jointly(stubs.model(), COARSE, CHILDREN[:1], 0, noise)


def test_noise_follows_from_its_numbers() -> None:
    noise = numbered_noise(3, SHAPE)
    np.testing.assert_array_equal(noise(1, 5), numbered_noise(3, SHAPE)(1, 5))
    assert not np.allclose(noise(1, 5), noise(2, 5))
    assert not np.allclose(noise(1, 5), noise(1, 6))
    assert abs(float(noise(0, -1).std()) - 1) < 0.1
