"""Which patches of a variant are embedded."""

import numpy as np
import pytest

pytest.importorskip("torch")

from wsicodec.train.variants import embed_grid, even

pytestmark = pytest.mark.torch


def test_patches_as_even_as_glass_are_not_embedded(rng: np.random.Generator) -> None:
    # A map that takes the tint of a scanner's light for tissue, as maps of old JPEG files do.
    rgb = np.full((512, 600, 3), (236, 220, 232), np.uint8)
    rgb[:256, 256:512] = rng.normal(170, 30, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    tissue = np.ones((16, 19), np.float32)
    tissue[8:] = 0
    asked = []

    def embed(patches: np.ndarray) -> np.ndarray:
        asked.append(patches)
        return np.full((len(patches), 3), 7, np.float32)

    grid, valid = embed_grid(rgb, tissue, embed)
    # The third patch is cut, and white beyond: an edge between two kinds of glass is not even.
    np.testing.assert_array_equal(valid, [[False, True, True], [False, False, False]])
    np.testing.assert_array_equal(asked[0][0], rgb[:256, 256:512])
    assert (grid[valid] == 7).all()
    assert not grid[~valid].any()


def test_noise_of_a_camera_is_even_and_pale_tissue_is_not(rng: np.random.Generator) -> None:
    noise = rng.normal(240, 3, (256, 256, 3)).clip(0, 255).astype(np.uint8)
    assert even(noise)
    noise[::8] -= 40  # fibres
    assert not even(noise)
