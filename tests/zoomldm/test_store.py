"""Slides encoded with, and stores drawn by, bundles made of every kind of published checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
h5py = pytest.importorskip("h5py")

from safetensors.torch import save_file  # noqa: E402

import wsicodec  # noqa: E402
from tests.importing import kit  # noqa: E402
from wsicodec import api, cli  # noqa: E402
from wsicodec.codec.draw_published import PublishedRecipe, glass_of  # noqa: E402
from wsicodec.codec.state import state  # noqa: E402
from wsicodec.diffusion import solvers  # noqa: E402
from wsicodec.diffusion.noise import noise_field  # noqa: E402
from wsicodec.errors import BundleError, ConfigError  # noqa: E402
from wsicodec.geometry import Region  # noqa: E402
from wsicodec.importing.sources import digest  # noqa: E402
from wsicodec.models.bundle import Bundle, forget_bundles  # noqa: E402
from wsicodec.models.published.cnn_summarizer import (  # noqa: E402
    CnnSummarizer,
    CnnSummarizerConfig,
)
from wsicodec.zoomldm.draw import draw_child, draw_patch  # noqa: E402
from wsicodec.zoomldm.model import load_published  # noqa: E402
from wsicodec.zoomldm.windows import window_grid  # noqa: E402

pytestmark = pytest.mark.torch
STEPS = 2  # of the way from noise; a child takes as many


def imported(folder: Path, kind: str, checkpoint: Any) -> Path:
    path = folder / f"{kind}.ckpt"
    torch.save(checkpoint, path)
    api.import_model(path, folder, name=kind, any_size=True)
    settings = folder / kind / "bundle.json"
    config = json.loads(settings.read_text())
    if "schedule" in config:
        config["schedule"]["steps"] = STEPS
        settings.write_text(json.dumps(config))
    return folder / kind


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every kind imported, and with bundles joined of them that have a codec."""
    folder = tmp_path_factory.mktemp("models")
    with torch.no_grad():
        for kind, checkpoint in kit.every_kind().items():
            imported(folder, kind, checkpoint)
    return folder


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """Two by three patches of something like tissue, the last column glass."""
    small = np.random.default_rng(0).integers(90, 220, (32, 48, 3)).astype(np.uint8)
    rgb = small.repeat(16, 0).repeat(16, 1)
    rgb[..., 1] //= 2
    rgb[:, 512:] = 245
    return rgb


@pytest.fixture(scope="module")
def slide(picture: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    path = tmp_path_factory.mktemp("slide") / "slide.png"
    Image.fromarray(picture).save(path)
    return path


def ready(path: Path, width: int) -> Path:
    """Features of the four patches with tissue, as CLAM keeps them."""
    with h5py.File(path, "w") as file:
        file["features"] = np.random.default_rng(1).normal(size=(4, width)).astype(np.float32)
        file["coords"] = np.array([[0, 0], [256, 0], [0, 256], [256, 256]])
    return path


@pytest.fixture(scope="module")
def release(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """The CVPR 2025 release with a codec, and the features that it was fitted to."""
    features = ready(tmp_path_factory.mktemp("f") / "f.h5", kit.SUMMARIZER.embedding_width)
    facts = api.fit_codec(models / "zoomldm", [features], bytes_per_vector=200)
    assert (facts["vectors"], facts["glass"]) == (4, False)
    return Bundle(models / "zoomldm"), features


@pytest.fixture(scope="module")
def store(
    release: tuple[Bundle, Path], slide: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("stores") / "uni.zarr"
    bundle, features = release
    wsicodec.encode(slide, path, preset="semantic", mpp=0.5, bundle=bundle.path, features=features)
    return path


def level(store: Path, k: int) -> Any:
    return zarr.open_group(store, mode="r")[str(k)]


def test_levels_are_what_the_release_draws_patch_by_patch(
    store: Path, release: tuple[Bundle, Path]
) -> None:
    model = load_published(release[0])
    group: Any = zarr.open_group(store, mode="r")
    grid, slide = np.asarray(group["embeddings"][...]), group.attrs["wsicodec"]["slide"]
    valid, glass = np.asarray(grid.any(-1)), np.zeros(grid.shape[2], np.float32)

    def noise(k: int, row: int, column: int) -> NDArray[np.float32]:
        place = Region(row, column, row + 1, column + 1).scale_up(64)
        return noise_field(slide, k, place, 3)

    with model.one_thread():
        top = draw_patch(
            model,
            window_grid(grid, valid, 7, (0, 0), glass),
            7,
            noise(7, 0, 0),
            steps=STEPS,
            solver=solvers.ddim,
        )
        shape = np.asarray(level(store, 7)).shape
        np.testing.assert_array_equal(np.asarray(level(store, 7)), top[: shape[0], : shape[1]])
        parent = np.asarray(level(store, 1)[:, :256])
        quarter = parent[128:256, :128]
        child = draw_child(model, grid[1:2, 0:1], 0, quarter, noise(0, 1, 0), start=500, stride=500)
    np.testing.assert_array_equal(np.asarray(level(store, 0)[256:512, :256]), child)
    assert child.std() > 1


def test_a_tile_costs_one_window_a_level_and_glass_costs_none(store: Path) -> None:
    here = state()
    here.tiles.cache.__init__(here.tiles.cache.limit)  # type: ignore[misc]
    before = dict(here.drawn)
    level(store, 0)[300:310, 300:310]
    drawn = {k: n - before.get(k, 0) for k, n in here.drawn.items() if n > before.get(k, 0)}
    assert drawn == dict.fromkeys(range(8), 1)
    assert np.asarray(level(store, 0)[:256, 600:700]).shape == (256, 100, 3)
    again = {k: n - before.get(k, 0) for k, n in here.drawn.items() if n > before.get(k, 0)}
    assert again[0] == 1


def test_a_read_does_not_depend_on_what_is_read_with_it(store: Path) -> None:
    here = state()
    whole = np.asarray(level(store, 1)[...])
    here.tiles.cache.__init__(here.tiles.cache.limit)  # type: ignore[misc]
    np.testing.assert_array_equal(
        np.asarray(level(store, 1)[100:200, 50:300]), whole[100:200, 50:300]
    )


def test_hipt_and_large_image_diffusion_make_one_bundle(
    models: Path, slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = models / "large-image-diffusion"
    words = [f"{part}={source}" for part in ("summarizer", "unet", "autoencoder")]
    words = [*words, f"embedder={models / 'hipt-vit256'}", "--out", str(tmp_path), "--name", "lid"]
    assert cli.main(["model", "join", *words]) == 0
    codec = ["model", "codec", str(tmp_path / "lid"), str(slide), "--mpp", "0.5", "--bytes", "200"]
    assert cli.main(codec) == 0
    assert "True" in capsys.readouterr().out.split()
    bundle = Bundle(tmp_path / "lid")
    assert (bundle.family, bundle.lacks("encode"), bundle.lacks("decode")) == ("hipt-patch", "", "")
    assert bundle.config["anchors"]["standard"]["level"] == 1
    wsicodec.encode(slide, tmp_path / "a.zarr", mpp=0.5, bundle=bundle.path)
    tile = np.asarray(level(tmp_path / "a.zarr", 0)[:256, :256])
    assert tile.std() > 1
    with pytest.raises(ConfigError, match="draws no coarser levels"):
        wsicodec.encode(slide, tmp_path / "b.zarr", mpp=0.5, bundle=bundle.path, preset="semantic")
    assert not (tmp_path / "b.zarr").exists()
    assert api.verify_model(bundle.path) == []


def trained_summarizer(folder: Path) -> Path:
    """A bundle with a summarizer of the workshop paper's design, as a training leaves it."""
    sizes = CnnSummarizerConfig(embedding_width=64, widths=(32, 32, 64, 64), film_width=8)
    folder.mkdir()
    part = folder / "summarizer.safetensors"
    save_file(kit.filled(CnnSummarizer(sizes)).state_dict(), part)
    config = {
        "format": 1,
        "name": "summarizer",
        "family": "hipt-cnn",
        "normalisation": "standardise",
        "summarizer": sizes.to_json(),
        "files": {part.name: digest(part)},
    }
    (folder / "bundle.json").write_text(json.dumps(config))
    return folder


def test_the_workshop_family_sees_every_embedding_under_a_coarse_patch(
    models: Path, slide: Path, tmp_path: Path
) -> None:
    parts = {
        "embedder": models / "hipt-vit256",
        "summarizer": trained_summarizer(tmp_path / "summarizer"),
        "unet": models / "zoomldm",
        "autoencoder": models / "vq-f4",
    }
    assert api.join_models(parts, tmp_path, name="workshop")["family"] == "hipt-cnn"
    bundle = Bundle(tmp_path / "workshop")
    api.fit_codec(bundle.path, [slide], mpp=0.5, bytes_per_vector=200)
    store = tmp_path / "a.zarr"
    wsicodec.encode(slide, store, mpp=0.5, bundle=bundle.path, preset="semantic")
    group: Any = zarr.open_group(store, mode="r")
    grid, digits = np.asarray(group["embeddings"][...]), group.attrs["wsicodec"]["slide"]
    bundle = Bundle(bundle.path)
    model, glass = load_published(bundle), glass_of(bundle)
    assert glass.any()
    window = window_grid(grid, np.asarray(grid.any(-1)), 7, (0, 0), glass)
    noise = noise_field(digits, 7, Region(0, 0, 64, 64), 3)
    with model.one_thread():
        top = draw_patch(model, window, 7, noise, steps=STEPS, solver=solvers.ddim)
    shown = np.asarray(group["7"][...])
    np.testing.assert_array_equal(shown, top[: shown.shape[0], : shown.shape[1]])


def test_starts_for_training_and_uni_fill_the_places_of_other_networks(
    models: Path, slide: Path, tmp_path: Path
) -> None:
    parts = {
        "embedder": models / "uni",
        "summarizer": models / "zoomldm",
        "unet": models / "cin256-v2",
        "autoencoder": models / "vq-f4",
    }
    told = api.join_models(parts, tmp_path, name="mixed")
    assert (told["family"], told["encodes"]) == ("uni-vit", False)
    assert "gated" in told["licence"]
    assert "ImageNet" in told["licence"]
    api.fit_codec(tmp_path / "mixed", [slide], mpp=0.5, bytes_per_vector=200)
    store = tmp_path / "a.zarr"
    wsicodec.encode(slide, store, mpp=0.5, bundle=tmp_path / "mixed", backend="auto")
    out = wsicodec.decode(store, tmp_path / "a.tif", level=1)
    assert out.stat().st_size > 1000
    for options, error, said in (
        ({"backend": "onnx"}, BundleError, "PyTorch only"),
        ({"steps": 3}, ConfigError, "whose stride divides 500"),
    ):
        group: Any = wsicodec.open(store, **options)
        with pytest.raises(error, match=said):
            group["0"][:10, :10]


def test_features_that_lack_patches_need_an_embedder(
    release: tuple[Bundle, Path], slide: Path, tmp_path: Path
) -> None:
    bundle, features = release
    few = tmp_path / "few.h5"
    with h5py.File(features) as file, h5py.File(few, "w") as out:
        out["features"], out["coords"] = file["features"][:2], file["coords"][:2]
    with pytest.raises(BundleError, match="has no embedder to embed them"):
        wsicodec.encode(slide, tmp_path / "a.zarr", mpp=0.5, bundle=bundle.path, features=few)
    with pytest.raises(BundleError, match=r"has no embedder\.safetensors"):
        wsicodec.encode(slide, tmp_path / "a.zarr", mpp=0.5, bundle=bundle.path)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"guidance_weight": 2.0}, ConfigError, "and not both"),
        ({"sampler": "heun"}, BundleError, "got 'heun'"),
    ],
)
def test_settings_that_are_not_clear_are_refused(
    change: dict[str, Any], error: type[Exception], said: str, release: tuple[Bundle, Path]
) -> None:
    bundle = Bundle(release[0].path)
    bundle.config = {**bundle.config, "schedule": {**bundle.config["schedule"], **change}}
    with pytest.raises(error, match=said):
        PublishedRecipe.of(bundle, "0" * 32, STEPS)


def test_both_conventions_of_guidance_name_the_same_drawing(release: tuple[Bundle, Path]) -> None:
    bundle = Bundle(release[0].path)
    schedule = dict(bundle.config["schedule"])
    del schedule["guidance_scale"]
    bundle.config = {**bundle.config, "schedule": {**schedule, "guidance_weight": 1.0}}
    assert PublishedRecipe.of(bundle, "0" * 32, 20).scale == 2.0
    assert PublishedRecipe.of(release[0], "0" * 32, 20).scale == 2.0
    forget_bundles()
