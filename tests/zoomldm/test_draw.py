"""Patches drawn by reduced networks of both published families, through bundles on disk."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from tests.importing import kit  # noqa: E402
from wsicodec import api  # noqa: E402
from wsicodec.diffusion import solvers  # noqa: E402
from wsicodec.diffusion.trained_steps import alpha_bars, square_root_linear  # noqa: E402
from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing.checkpoint import import_checkpoint  # noqa: E402
from wsicodec.models.bundle import Bundle, load_bundle  # noqa: E402
from wsicodec.models.published.cnn_summarizer import (  # noqa: E402
    CnnSummarizer,
    CnnSummarizerConfig,
)
from wsicodec.zoomldm.draw import draw_child, draw_patch, enlarge  # noqa: E402
from wsicodec.zoomldm.model import PublishedModel, load_published  # noqa: E402

pytestmark = pytest.mark.torch

RNG = np.random.default_rng(3)
NOISE = RNG.standard_normal((3, 64, 64)).astype(np.float32)


def window(level: int, width: int = 24) -> Any:
    side = 1 << level
    return np.random.default_rng(level).standard_normal((side, side, width)).astype(np.float32)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """An imported checkpoint of the CVPR 2025 layout."""
    folder = tmp_path_factory.mktemp("release")
    with torch.no_grad():
        torch.save(kit.zoomldm(), folder / "weights.ckpt")
    return import_checkpoint(folder / "weights.ckpt", folder, any_size=True)


@pytest.fixture(scope="module")
def model(release: Bundle) -> PublishedModel:
    return load_published(release)


def test_every_magnification_is_drawn_and_is_a_function_of_what_goes_in(
    model: PublishedModel,
) -> None:
    assert model.latent_shape == (3, 64, 64)
    drawn = [draw_patch(model, window(k), k, NOISE, steps=2) for k in (0, 1, 2, 3, 5)]
    assert {patch.shape for patch in drawn} == {(256, 256, 3)}
    assert all(patch.dtype == np.uint8 and patch.std() > 1 for patch in drawn)
    again = draw_patch(model, window(1), 1, NOISE, steps=2)
    np.testing.assert_array_equal(again, drawn[1])
    other = draw_patch(model, window(1) + RNG.normal(size=24).astype(np.float32), 1, NOISE, steps=2)
    assert (other != drawn[1]).any()


def test_a_window_finer_than_8_is_pooled_before_it_is_standardised(model: PublishedModel) -> None:
    fine = window(4)
    pooled = fine.reshape(8, 2, 8, 2, 24).mean((1, 3))
    # Sums in another order: some units of 2 ** -24 through two transformer blocks.
    torch.testing.assert_close(model.context(fine, 4), model.context(pooled, 4), atol=1e-4, rtol=0)
    scaled = model.context(7 * window(2) + 3, 2)
    torch.testing.assert_close(scaled, model.context(window(2), 2), atol=1e-4, rtol=0)


def test_guidance_mixes_with_the_null_condition_by_its_scale(model: PublishedModel) -> None:
    context = model.context(window(2), 2)
    x = model.put(NOISE)
    null = model.estimate(torch.zeros_like(context), 2, 1.0)(x, 500)
    plain = model.estimate(context, 2, 1.0)(x, 500)
    guided = model.estimate(context, 2, 3.0)(x, 500)
    assert not torch.allclose(null, plain, atol=1e-3)
    # Batches of two and of one differ by rounding, which the scale magnifies.
    torch.testing.assert_close(guided, null + 3 * (plain - null), atol=1e-4, rtol=1e-4)


class Oracle:
    """A network that knows the clean latent and so the noise."""

    def __init__(self, model: PublishedModel, clean: Any) -> None:
        self.model, self.clean = model, clean
        self.steps: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def estimate(self, *_: Any) -> Any:
        def noise(x: Any, t: int) -> Any:
            self.steps.append(t)
            a = float(self.model.table[t])
            return (x - a**0.5 * self.clean) / (1 - a) ** 0.5

        return noise


def test_a_child_is_its_enlarged_parent_where_the_network_changes_nothing(
    model: PublishedModel,
) -> None:
    quarter = RNG.integers(0, 255, (128, 128, 3), np.uint8)
    clean = model.encode(enlarge(quarter))
    oracle: Any = Oracle(model, clean)
    drawn = draw_child(oracle, window(0), 0, quarter, NOISE)
    assert oracle.steps == list(range(500, -1, -20))
    # Latents come back up to rounding, and a cell may fall to the next code at a border.
    assert (drawn != model.decode(clean)).mean() < 0.01


def test_enlarging_keeps_flat_areas_and_the_direction_of_edges() -> None:
    image = np.full((8, 6, 3), 100, np.uint8)
    image[:, 3:] = 200
    large = enlarge(image)
    assert large.shape == (16, 12, 3)
    assert (large[:, :3] == 100).all()
    assert (large[:, 9:] == 200).all()
    assert (large == large[:1]).all()


def test_the_workshop_family_is_drawn_with_its_magnification_in_the_unet(
    release: Bundle, tmp_path: Path
) -> None:
    sizes = CnnSummarizerConfig(embedding_width=32, widths=(32, 32, 64, 64), film_width=8)
    unet = {**release.config["unet"], "magnifications": 8}
    parts = {
        "summarizer": kit.filled(CnnSummarizer(sizes)).state_dict(),
        "unet": {
            **load_file(release, "unet"),
            "label_emb.weight": torch.randn(8, 4 * unet["width"]),
        },
        "autoencoder": load_file(release, "autoencoder"),
    }
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.iterdir()}
    config = {
        **release.config,
        "family": "hipt-cnn",
        "name": "workshop",
        "summarizer": sizes.to_json(),
        "unet": unet,
        "files": files,
    }
    (tmp_path / "bundle.json").write_text(json.dumps(config))
    model = load_published(Bundle(tmp_path))
    assert isinstance(model.summarizer, CnnSummarizer)
    assert model.context(window(4, 32), 4).shape == (1, 64, 64)
    fine, coarse = (
        draw_patch(model, window(3, 32), k, NOISE, steps=1, solver=solvers.ddim) for k in (0, 7)
    )
    assert (fine != coarse).any()
    assert api.verify_model(tmp_path) == []


def load_file(bundle: Bundle, part: str) -> dict[str, Any]:
    return {
        name: torch.from_numpy(values.copy())
        for name, values in bundle.weights(f"{part}.safetensors").items()
    }


def test_the_table_is_the_bundles_own(model: PublishedModel) -> None:
    np.testing.assert_array_equal(model.table, alpha_bars(square_root_linear()))


def test_other_families_and_damaged_parts_are_refused(release: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="family small"):
        load_published(load_bundle())
    for part in release.config["files"]:
        (tmp_path / part).write_bytes((release.path / part).read_bytes())
    settings = tmp_path / "bundle.json"
    settings.write_text(json.dumps({**release.config, "normalisation": "whiten"}))
    with pytest.raises(BundleError, match="got 'whiten'"):
        load_published(Bundle(tmp_path))
    settings.write_text(json.dumps({**release.config, "unet": kit.UNET.to_json() | {"blocks": 2}}))
    with pytest.raises(BundleError, match="unet of bundle zoomldm does not fit"):
        load_published(Bundle(tmp_path))
    with (tmp_path / "unet.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(BundleError, match="damaged"):
        load_published(Bundle(tmp_path))
