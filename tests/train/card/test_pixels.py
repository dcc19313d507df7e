"""What a device does to pixels against what is done to them at home."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from wsicodec.resample import box_reduce  # noqa: E402
from wsicodec.resample import double as double_at_home  # noqa: E402
from wsicodec.train import augment, data, parents  # noqa: E402
from wsicodec.train.card import pixels  # noqa: E402

pytestmark = pytest.mark.torch


def picture(height: int = 96, width: int = 128) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 256, (height // 16, width // 16, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), 3), np.int16)
    return np.asarray(np.clip(smooth + rng.integers(-9, 10, smooth.shape), 0, 255), np.uint8)


def planes(rgb: np.ndarray) -> Any:
    return torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float()


def test_bends_are_those_of_home_within_rounding() -> None:
    rgb = picture()
    bend = augment.StainBend.draw(np.random.default_rng(1), augment.AugmentConfig())
    ours = pixels.as_bends(bend, torch.device("cpu")).apply(planes(rgb))
    found = pixels.to_bytes(ours)[0].numpy().astype(int)
    assert np.abs(found - bend.apply(rgb)).max() <= 1


def test_many_bends_are_as_wide_as_those_of_home() -> None:
    config = augment.AugmentConfig(plain_share=0.3)
    ours = pixels.draw_bends(np.random.default_rng(2), 4000, config, torch.device("cpu"))
    rng = np.random.default_rng(3)
    drawn = [augment.draw_bend(rng, config) for _ in range(4000)]
    theirs = np.stack([np.eye(3) if b is None else b.matrix for b in drawn])
    # A deviation of 4000 samples with heavy tails is known to about 4 %: three of these.
    np.testing.assert_allclose(ours.matrices.numpy().std(0), theirs.std(0), rtol=0.12)
    plain = (ours.biases == 0).all(1).float().mean()
    assert abs(float(plain) - 0.3) < 3 * (0.3 * 0.7 / 4000) ** 0.5


@pytest.mark.parametrize("code", range(8))
def test_turns_are_those_of_home(code: int) -> None:
    rgb = picture()
    ours = pixels.turn(torch.from_numpy(rgb), code).numpy()
    np.testing.assert_array_equal(ours, augment.turn(rgb, code))


def test_each_image_takes_its_own_of_eight_turns() -> None:
    square = torch.arange(16.0).view(1, 1, 4, 4).expand(8, 1, 4, 4)
    turned = pixels.turn_each(square, torch.arange(8))
    assert len({tuple(t.flatten().tolist()) for t in turned}) == 8


@pytest.mark.parametrize("shape", [(96, 128), (97, 129), (96, 33)])
def test_halving_is_the_box_filter_to_the_last_bit(shape: tuple[int, int]) -> None:
    rgb = picture(160, 160)[: shape[0], : shape[1]]
    np.testing.assert_array_equal(pixels.halve(torch.from_numpy(rgb)).numpy(), box_reduce(rgb, 2))


def test_the_tissue_map_is_that_of_home() -> None:
    rgb = picture()
    ours = pixels.tissue_map(torch.from_numpy(rgb))
    np.testing.assert_allclose(ours, data.tissue_map(rgb), atol=1e-6)


def test_doubling_is_cubic_with_repeated_borders() -> None:
    rgb = picture().astype(np.float32)
    ours = pixels.double(planes(rgb))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, double_at_home(rgb), atol=1e-3)


def test_blur_is_that_of_parents() -> None:
    rgb = picture().astype(np.float32)
    both = torch.cat([planes(rgb), planes(rgb)])
    ours = pixels.blur(both, torch.tensor([0.7, 0.0])).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours[0], parents._blurred(rgb, 0.7), atol=1e-3)
    np.testing.assert_allclose(ours[1], rgb, atol=1e-3)


@pytest.mark.parametrize(("cut", "side"), [(64, 64), (90, 64), (40, 64)])
def test_resampling_is_pillows(cut: int, side: int) -> None:
    rgb = picture(96, 96)
    theirs = augment.resize(rgb[5 : 5 + cut, 3 : 3 + cut], side).astype(int)
    corner = torch.tensor([[5.0, 3.0]])
    ours = pixels.resample(planes(rgb), corner, torch.tensor([float(cut)]), side)
    found = pixels.to_bytes(ours)[0].numpy().astype(int)
    # Pillow rounds between its two passes: an error of at most a half, a quarter in the mean.
    assert np.abs(found - theirs).max() <= 2
    assert np.abs(found - theirs).mean() < 0.25
