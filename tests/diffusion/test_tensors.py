"""Drawing's surroundings on tensors, against what they are in NumPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.diffusion.noise import noise_field, noise_lanes, normal_table  # noqa: E402
from wsicodec.diffusion.tensors import lock_colours, noise_tensor  # noqa: E402
from wsicodec.diffusion.windows import lock_colour  # noqa: E402
from wsicodec.geometry import Region  # noqa: E402

pytestmark = pytest.mark.torch


def test_noise_is_the_same_field_bit_for_bit() -> None:
    """Places left of and above the slide, far from it, and of other levels and slides."""
    places = [("ab" * 16, 0, -4, -4), ("f" * 32, 7, 28, 2**31), ("0" * 32, 3, 1000, 60)]
    lanes = np.stack([noise_lanes(slide, level, 5) for slide, level, _, _ in places])
    got = noise_tensor(
        torch.from_numpy(lanes.view(np.int64)),
        torch.tensor([[y, x] for _, _, y, x in places]),
        (7, 9),
        torch.from_numpy(normal_table()),
    )
    for made, (slide, level, y, x) in zip(got, places, strict=True):
        wanted = noise_field(slide, level, Region(y, x, y + 7, x + 9), 5)
        np.testing.assert_array_equal(made.numpy(), wanted)


def test_colours_are_locked_as_in_numpy_and_stay_without_a_parent(
    rng: np.random.Generator,
) -> None:
    drawn = rng.normal(size=(2, 64, 96, 3)).astype(np.float32)
    parent = rng.normal(size=(2, 32, 48, 3)).astype(np.float32)
    got = lock_colours(
        torch.from_numpy(drawn).permute(0, 3, 1, 2),
        torch.from_numpy(parent).permute(0, 3, 1, 2),
        torch.tensor([1.0, 0.0]),
    ).permute(0, 2, 3, 1)
    # Means of 256 values, sums over neighbours and three products, each rounded to 2**-24.
    np.testing.assert_allclose(got[0].numpy(), lock_colour(drawn[0], parent[0]), atol=1e-5)
    np.testing.assert_array_equal(got[1].numpy(), drawn[1])
