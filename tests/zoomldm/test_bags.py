"""Bags of a slide's summaries: which patches, in which order, told what."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.zoomldm import stubs  # noqa: E402
from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.published.vit_summarizer import (  # noqa: E402
    VitSummarizer,
    VitSummarizerConfig,
)
from wsicodec.zoomldm.bags import summary_bag  # noqa: E402

pytestmark = pytest.mark.torch
GRID = np.random.default_rng(0).normal(size=(5, 7, 6)).astype(np.float32)
GLASS = np.zeros(6, np.float32)


def test_patches_with_tissue_alone_are_in_the_bag_row_by_row() -> None:
    valid = np.zeros((5, 7), bool)
    valid[0, 5] = valid[3, 1] = True
    bag, tiles = summary_bag(stubs.model(width=6), GRID, valid, GLASS, level=1)
    assert tiles.tolist() == [[0, 2], [1, 0]]
    assert bag.shape == (2, 4, 6)
    np.testing.assert_array_equal(bag[0], [GLASS, GRID[0, 5], GLASS, GLASS])
    np.testing.assert_array_equal(bag[1], [GLASS, GLASS, GLASS, GRID[3, 1]])
    with pytest.raises(ConfigError, match="without tissue"):
        summary_bag(stubs.model(width=6), GRID, np.zeros((5, 7), bool), GLASS)


def test_the_release_gives_64_tokens_and_the_magnification_only_through_them() -> None:
    model = stubs.model(width=6)
    sizes = VitSummarizerConfig(embedding_width=6, width=32, depth=1, heads=1)
    model.summarizer = VitSummarizer(sizes).eval()
    valid = np.ones((5, 7), bool)
    bag, tiles = summary_bag(model, GRID, valid, GLASS)
    assert bag.shape == (1, 64, 32)
    assert tiles.tolist() == [[0, 0]]
    window = np.zeros((128, 128, 6), np.float32)
    window[:5, :7] = GRID
    whole = model.context(window, 7)[0].numpy()
    np.testing.assert_array_equal(bag[0], whole[1:])
    other, _ = summary_bag(model, GRID, valid, GLASS, magnification=3)
    assert not np.allclose(bag, other)
