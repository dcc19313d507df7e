"""Mean colours told by stain statistics: the law behind them, and the way back from embeddings."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.stain_colours import coarse_deviations, load_stain_colours, mean_colours


def test_a_mean_colour_is_that_of_gamma_distributed_densities(rng: np.random.Generator) -> None:
    mean, deviation = np.array([[0.2, 0.8, 0.5], [0.1, 0.6, 0.5]], np.float32)
    shape = np.square(mean / deviation)
    drawn = rng.gamma(shape, mean / shape, (200_000, 3))
    true = (256 * np.exp(-drawn) - 1).mean(0)
    # A mean of 200,000 colours that deviate by 60 at most is within 0.6 in all but 1 of 10**5.
    np.testing.assert_allclose(mean_colours(mean, deviation), true, atol=0.6)


def test_an_even_patch_has_the_colour_of_its_density() -> None:
    colours = np.array([[255, 128, 3], [243, 243, 243]], np.float32)
    density = -np.log((colours + 1) / 256)
    # Nothing is taken for fainter or flatter than 0.001, which is a quarter of a grey level.
    np.testing.assert_allclose(mean_colours(density, 0 * density), colours, atol=0.3)


def test_what_octaves_have_is_taken_from_a_deviation() -> None:
    deviation = np.array([0.5, 0.4, 0.2], np.float32)
    energies = np.array([0.1, 0.02, 0.05, 0.02, 0.04, 0.0], np.float32)  # red, green, red, ...
    found = coarse_deviations(deviation, energies)
    left = np.array([0.25 - 0.19, 0.16 - 0.04])
    np.testing.assert_allclose(found[:2], np.sqrt(left), rtol=1e-5)
    np.testing.assert_allclose(found[2], 0.2 * np.sqrt((left / (0.25, 0.16)).mean()), rtol=1e-5)
    assert not coarse_deviations(deviation, energies * 9)[:2].any(), "never below nothing"


@pytest.mark.torch
def test_embeddings_tell_what_was_measured(tmp_path: Path, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    from wsicodec.models.stain_statistics import StainStatistics, measured

    amounts = rng.gamma(2, 0.2, (60, 1, 64, 64)) * rng.uniform(0.4, 1.4, (60, 3, 1, 1))
    amounts = amounts.repeat(2, 2).repeat(2, 3)  # nothing in the finest octave
    light = np.clip(256 * np.exp(-amounts) - 1, 0, 255)
    images = torch.from_numpy((light / 127.5 - 1).astype(np.float32))
    module = StainStatistics()
    module.fit(measured(images), 1.0)
    with torch.no_grad():
        statistics = module(images).numpy()
    part = save({f"stains.{k}": v.numpy() for k, v in module.state_dict().items()})
    (tmp_path / "embedder.safetensors").write_bytes(part)
    files = {"embedder.safetensors": hashlib.sha256(part).hexdigest()}
    config = {"format": 1, "name": "fake", "files": files, "embedder": {"statistics": 14}}
    (tmp_path / "bundle.json").write_text(json.dumps(config))
    told = load_stain_colours(Bundle(tmp_path))
    assert told is not None
    vectors = np.concatenate([rng.normal(size=(60, 4)), statistics], axis=1).astype(np.float32)
    mean, rest = told.of(vectors)
    assert np.abs(mean - light.mean((2, 3))).max() < 2.5
    assert light.mean((2, 3)).std() > 15
    # Squares of 2 pixels that know nothing of each other leave 1 / 16 of their variance to squares
    # of 8, which is what lies beyond the three finest octaves.
    density = -np.log((light + 1) / 256)
    wanted = (mean + 1) * density.std((2, 3)) / 4
    np.testing.assert_allclose(rest[:, :2], wanted[:, :2], rtol=0.25)


def test_an_embedder_without_statistics_tells_none(tmp_path: Path) -> None:
    config = {"format": 1, "name": "fake", "files": {}, "embedder": {"width": 192}}
    (tmp_path / "bundle.json").write_text(json.dumps(config))
    assert load_stain_colours(Bundle(tmp_path)) is None


def test_the_embedded_bundle_tells_colours_of_tissue() -> None:
    told = load_stain_colours(load_bundle())
    assert told is not None
    (red, green, blue), rest = told.of(np.zeros(206, np.float32))
    assert 230 > red > green > 90  # mean training tissue is pink
    assert blue > green
    assert (rest > 5).all()
