"""Smoothing a mosaic: nothing moves where nothing should, and seams go."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.zoomldm import stubs  # noqa: E402
from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.zoomldm.mosaic import (  # noqa: E402
    SmoothingRecipe,
    between,
    decode_mosaic,
    slerp,
    smooth_mosaic,
    windows,
)

pytestmark = pytest.mark.torch
RECIPE = SmoothingRecipe(shift=4, scale=1.0)


def test_windows_cover_a_latent_to_its_borders() -> None:
    assert list(windows(16, 32, 16, 12)) == [(0, 0), (0, 12), (0, 16)]
    assert list(windows(16, 16, 16, 4)) == [(0, 0)]
    assert len(list(windows(32, 32, 16, 4))) == 25


def test_decoding_in_windows_is_decoding_where_windows_agree() -> None:
    latent = torch.randn(1, 3, 32, 48)
    shown = decode_mosaic(stubs.model(), latent, 4)
    torch.testing.assert_close(shown, latent, atol=1e-5, rtol=0)


def seam(mosaic: np.ndarray) -> float:
    """The mean step between the patches' columns, over that between other columns."""
    steps = np.abs(np.diff(mosaic.astype(float), axis=1)).mean((0, 2))
    return float(steps[15] / np.delete(steps, 15).mean())


def test_a_seam_between_two_colours_becomes_a_slope() -> None:
    rng = np.random.default_rng(0)
    grid = np.array([[[-0.5, -0.5, -0.5, 1], [0.5, 0.5, 0.5, 1]]], np.float32)
    mosaic = np.concatenate([np.full((16, 16, 3), 64), np.full((16, 16, 3), 191)], 1)
    mosaic = (mosaic + rng.integers(-4, 5, mosaic.shape)).astype(np.uint8)
    noise = rng.standard_normal((8, 3, 16, 32)).astype(np.float32)
    recipe = SmoothingRecipe(start=300, shift=4, scale=1.0)
    drawn = smooth_mosaic(stubs.model(deviation=0.02, width=4), mosaic, grid, noise, recipe)
    assert drawn.shape == mosaic.shape
    assert seam(mosaic) > 10
    assert seam(drawn) < 0.4 * seam(mosaic)
    assert drawn[:, -4:].mean() > drawn[:, :4].mean() + 60


def test_a_mosaic_where_the_network_is_sure_stays() -> None:
    """Data without spread: whatever the noise, the clean latent is the condition's mean."""
    grid = np.full((2, 2, 3), 0.25, np.float32)
    mosaic = np.full((32, 32, 3), 200, np.uint8)
    noise = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    drawn = smooth_mosaic(stubs.model(deviation=0.0), mosaic, grid, noise, RECIPE)
    # 0.25 lies at 159.4; rounding through six steps moves it across no byte but its own.
    assert set(np.unique(drawn).tolist()) <= {159, 160}


def test_shapes_that_do_not_fit_are_refused() -> None:
    grid, mosaic = np.zeros((1, 2, 3), np.float32), np.zeros((16, 32, 3), np.uint8)
    noise = np.zeros((8, 3, 16, 32), np.float32)
    for (pixels, cells, drawn), said in (
        ((mosaic[:10], grid, noise), "patches of 16 px, got 10 x 32"),
        ((mosaic, grid[:, :1], noise), "an embedding for each patch"),
        ((mosaic, grid, noise[:3]), r"noise of shape \(8, 3, 16, 32\)"),
    ):
        with pytest.raises(ConfigError, match=said):
            smooth_mosaic(stubs.model(), pixels, cells, drawn, RECIPE)


def test_turning_between_embeddings_keeps_length_and_ends() -> None:
    a, b = np.array([2.0, 0, 0], np.float32), np.array([0, 4.0, 0], np.float32)
    np.testing.assert_allclose(slerp(a, b, 0.0), a, atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 1.0), b, atol=1e-6)
    np.testing.assert_allclose(slerp(a, b, 0.5), [3 / 2**0.5, 3 / 2**0.5, 0], rtol=1e-5)
    np.testing.assert_allclose(slerp(a, 2 * a, 0.25), 1.25 * a)
    grid = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(between(grid, 1.0, 2.0)[0, 0], grid[1, 2], atol=1e-6)
    np.testing.assert_allclose(
        between(grid, 0.0, 1.5)[0, 0], slerp(grid[0, 1], grid[0, 2], 0.5), atol=1e-6
    )
