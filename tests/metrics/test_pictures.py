"""Measures of pictures, against what can be worked out by hand."""

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics.pictures import (
    Pixels,
    aligned_and_shifted,
    block_colour_error,
    chroma,
    chroma_ratios,
    cut_patches,
    ms_ssim,
    octave_ratios,
    octaves,
    psnr,
    seam_score,
)
from wsicodec.metrics.stains import stain_error, stain_vectors


@pytest.fixture
def noise(rng: np.random.Generator) -> Pixels:
    return rng.integers(0, 256, (128, 192, 3), np.uint8)


def test_psnr_of_a_known_error() -> None:
    true = np.full((8, 8, 3), 100, np.uint8)
    assert psnr(true, true + np.uint8(5)) == pytest.approx(20 * np.log10(255 / 5))


def test_octaves_of_a_checkerboard() -> None:
    """Squares of two pixels, 100 apart: all energy, 50^2, in the second octave; kurtosis 1."""
    board = np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((2, 2))) * 100
    rgb = np.repeat(board[..., None], 3, 2).astype(np.uint8)
    assert octaves(rgb) == [(0, 0), (2500, 1), (0, 0)]


def test_kurtosis_of_white_noise_is_three(rng: np.random.Generator) -> None:
    grey = np.clip(rng.normal(128, 20, (512, 512)), 0, 255)
    energy, kurtosis = octaves(np.repeat(grey[..., None], 3, 2).astype(np.uint8))[0]
    assert energy == pytest.approx(0.75 * 400, rel=0.02)
    assert kurtosis == pytest.approx(3, rel=0.02)


def test_halved_contrast_has_a_quarter_of_the_energy(noise: Pixels) -> None:
    ratios = octave_ratios(noise, noise // 2)
    assert ratios["energy_0"] == pytest.approx(0.25, rel=0.02)
    assert ratios["kurtosis_0"] == pytest.approx(1, rel=0.02)


def test_chroma_of_a_red_checkerboard() -> None:
    """Red 100 apart in every other pixel: 50^2 in red over green alone, none in coarser octaves."""
    rgb = np.full((32, 32, 3), 80, np.uint8)
    rgb[..., 0] += (np.indices((32, 32)).sum(0) % 2 * 100).astype(np.uint8)
    assert chroma(rgb) == [1250, 0, 0]


def test_grey_detail_has_no_chroma(noise: Pixels) -> None:
    assert chroma(noise[..., :1].repeat(3, 2)) == [0, 0, 0]


def test_chroma_is_told_over_the_truths(noise: Pixels) -> None:
    ratios = chroma_ratios(chroma(noise), chroma(noise // 2))
    assert list(ratios) == ["chroma_0", "chroma_1", "chroma_2"]
    assert list(ratios.values()) == pytest.approx([0.25] * 3, rel=0.02)


def test_block_colour_error_is_the_length_of_a_shift() -> None:
    true = np.full((128, 128, 3), 100, np.uint8)
    assert block_colour_error(true, true + np.array([3, 4, 12], np.uint8)) == pytest.approx(13)


def test_seam_score_of_one_ramp_and_of_steps() -> None:
    ramp = np.repeat(np.arange(128, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    assert seam_score(ramp, 32) == pytest.approx(1)
    stepped = ramp + (np.arange(128) // 32 * 4).astype(np.uint8)[None, :, None]
    assert seam_score(stepped, 32) == pytest.approx(5)


def test_patches_come_back_in_reading_order() -> None:
    rgb = np.zeros((70, 100, 3), np.uint8)
    rgb[37, 68] = 9  # inside the second row, third column
    patches = cut_patches(rgb, 32)
    assert patches.shape == (6, 32, 32, 3)
    assert np.argwhere(patches[..., 0] == 9).tolist() == [[5, 5, 4]]


def test_aligned_and_shifted_are_as_many_and_half_a_window_apart(noise: Pixels) -> None:
    aligned, shifted = aligned_and_shifted([noise], 64)
    assert aligned.shape == shifted.shape == (2, 64, 64, 3)
    assert np.array_equal(aligned[1], noise[:64, 64:128])
    assert np.array_equal(shifted[1], noise[32:96, 96:160])


def test_stains_of_two_dyes_mixed_at_random(rng: np.random.Generator) -> None:
    """Beer and Lambert: densities are mixtures of the two vectors, both pure somewhere."""
    dyes = np.array([[0.65, 0.70, 0.29], [0.20, 0.95, 0.25]])
    dyes /= np.linalg.norm(dyes, axis=1, keepdims=True)
    amounts = np.concatenate([rng.uniform(0.3, 2, (2000, 2)), np.eye(2).repeat(200, 0) * 1.2])
    rgb = np.exp(-amounts @ dyes) * 255.5 - 0.5
    found = stain_vectors(np.clip(np.round(rgb), 0, 255).astype(np.uint8).reshape(60, 40, 3))
    angles = np.degrees(np.arccos((found * dyes).sum(1)))
    assert angles.max() < 2  # bytes round a density of 0.24 by a hundredth


def test_stain_error_of_one_picture_is_zero(fields: list[Pixels]) -> None:
    assert stain_error(fields[0], fields[0]) < 1e-4  # an arc cosine near one has half the digits


@pytest.mark.parametrize("measure", [psnr, block_colour_error, ms_ssim])
def test_sizes_must_agree(measure: object, noise: Pixels) -> None:
    assert callable(measure)
    with pytest.raises(ConfigError, match="one size"):
        measure(noise, noise[:-1])


def test_what_is_too_small_is_refused(noise: Pixels) -> None:
    with pytest.raises(ConfigError, match="161"):
        ms_ssim(noise, noise)
    with pytest.raises(ConfigError, match="64 px"):
        block_colour_error(noise[:32], noise[:32])
    with pytest.raises(ConfigError, match="window"):
        seam_score(noise, 192)
    with pytest.raises(ConfigError, match="stained"):
        stain_vectors(np.full((64, 64, 3), 240, np.uint8))
