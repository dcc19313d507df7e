"""The two runtimes draw the same, and neither cares what else is drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from wsicodec.codec.draw import Recipe, Window, draw_windows
from wsicodec.errors import BundleError
from wsicodec.models.bundle import EMBEDDED, Bundle, load_bundle
from wsicodec.models.networks import choose_backend, load_drawing, load_embedder, to_network

# Both runtimes sum the same float32 products in another order; over the few hundred layers of four
# steps that stays below two grey values, and below a tenth on average.
LARGEST, MEAN = 2, 0.1


def _windows(bundle: Bundle, count: int) -> list[Window]:
    rng = np.random.default_rng(0)
    windows = []
    for i in range(count):
        parent = np.clip(rng.normal(190, 30, (20, 20, 3)).repeat(8, 0).repeat(8, 1), 0, 255)
        cond = rng.normal(size=(bundle.embedding_width + 1, 10, 10)).astype(np.float32)
        windows.append(Window(i % 2, i, 0, i % 2, parent.astype(np.uint8), cond))
    return windows


def _recipe(bundle: Bundle, start: str = "noise") -> Recipe:
    return Recipe("ab" * 16, bundle.latent_channels, 2, start)


@pytest.mark.torch
def test_both_runtimes_draw_the_same_within_tolerance() -> None:
    bundle = load_bundle()
    window = _windows(bundle, 1)
    tiles = [
        draw_windows(load_drawing(bundle, name), _recipe(bundle), window * 1)[0].astype(int)
        for name in ("onnx", "torch")
    ]
    difference = np.abs(tiles[0] - tiles[1])
    assert difference.max() <= LARGEST
    assert difference.mean() <= MEAN


@pytest.mark.torch
def test_both_runtimes_embed_the_same_within_tolerance() -> None:
    bundle = load_bundle()
    patches = np.random.default_rng(0).integers(0, 256, (11, 256, 256, 3), np.uint8)
    onnx, torch = (load_embedder(bundle, name)(patches) for name in ("onnx", "torch"))
    np.testing.assert_allclose(onnx, torch, atol=1e-3 * np.abs(torch).max())


def test_an_embedding_does_not_depend_on_its_company() -> None:
    embed = load_embedder(load_bundle())
    patches = np.random.default_rng(0).integers(0, 256, (10, 256, 256, 3), np.uint8)
    together = embed(patches)
    np.testing.assert_array_equal(embed(patches[3:4]), together[3:4])
    np.testing.assert_array_equal(embed(patches[9:]), together[9:])


def test_patches_reach_the_network_with_rows_as_rows() -> None:
    patch = np.zeros((1, 256, 256, 3), np.uint8)
    patch[0, 3, 7, 1] = 255
    image = to_network(patch)
    assert image.shape == (1, 3, 256, 256)
    assert image[0, 1, 3, 7] == 1
    assert (image == -1).sum() == image.size - 1


@pytest.mark.torch
def test_drawing_may_start_from_the_noised_parent() -> None:
    """ZoomLDM's own decompression, which needs the autoencoder's encoder."""
    bundle = load_bundle()
    window = _windows(bundle, 1)
    drawing = load_drawing(bundle, "torch")
    from_noise = draw_windows(drawing, _recipe(bundle), window)[0]
    from_parent = draw_windows(drawing, _recipe(bundle, "parent"), window)[0]
    assert from_parent.shape == (256, 256, 3)
    assert (from_noise != from_parent).any()


def test_without_an_encoder_graph_starting_from_the_parent_is_refused() -> None:
    bundle = load_bundle()
    with pytest.raises(BundleError, match="backend='torch'"):
        draw_windows(load_drawing(bundle, "onnx"), _recipe(bundle, "parent"), _windows(bundle, 1))


def test_a_window_that_knows_nothing_can_be_drawn() -> None:
    bundle = load_bundle()
    cond = np.zeros((bundle.embedding_width + 1, 10, 10), np.float32)
    drawing = load_drawing(bundle, "onnx")
    tile = draw_windows(drawing, _recipe(bundle), [Window(7, 0, 0, 7, None, cond)])[0]
    assert tile.shape == (256, 256, 3)


def test_a_graph_that_does_not_fit_its_weights_is_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EMBEDDED / "small", tmp_path / "b"))
    config = json.loads((folder / "bundle.json").read_text())
    shutil.copy(folder / "renderer.onnx", folder / "denoiser.onnx")
    config["files"]["denoiser.onnx"] = config["files"]["renderer.onnx"]
    (folder / "bundle.json").write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"denoiser\.onnx"):
        load_drawing(Bundle(folder), "onnx")


def test_backends_are_chosen_among_what_is_installed() -> None:
    assert choose_backend("torch") == "torch"
    assert choose_backend("auto") in ("onnx", "torch")
