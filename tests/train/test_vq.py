"""The published families' autoencoder trained here: codes, gradients, and the way to a bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from wsicodec.importing.checkpoint import import_checkpoint  # noqa: E402
from wsicodec.models.autoencoder import PixelShuffleAutoencoder  # noqa: E402
from wsicodec.models.published.vq import VqConfig  # noqa: E402
from wsicodec.train import checkpoint, stages, vq  # noqa: E402
from wsicodec.train.autoencoder import AutoencoderTraining  # noqa: E402
from wsicodec.train.autoencoder_eval import load_either, reconstruct  # noqa: E402
from wsicodec.train.config import build, load_config  # noqa: E402
from wsicodec.train.vq import VqStage, VqTraining  # noqa: E402

pytestmark = pytest.mark.torch
CONFIGS = Path(stages.__file__).parent / "configs"
TOY = {"codes": 32, "width": 32, "multipliers": [1, 2], "blocks": 1}


@pytest.fixture
def settings(tissue_folder: Path, pyramid_cache: Path, tmp_path: Path) -> dict[str, object]:
    return {
        "folder": str(tmp_path / "vq"), "side": 32, "model": TOY,
        "data": {"root": str(tissue_folder), "cache": str(pyramid_cache)},
        "loop": {"batch": 4, "log_every": 4}, "rate": {"total": 8, "warmup": 4, "peak": 1e-3},
    }  # fmt: skip


def test_gradients_pass_straight_through_the_codebook(settings: dict[str, object]) -> None:
    stage = VqStage(build(VqTraining, settings))
    batch = {"rgb": torch.from_numpy(np.stack([stage.sample(i)["rgb"] for i in range(2)]))}
    loss, terms = stage.loss(batch)
    loss.backward()
    first, codes = (
        stage.model.encoder.conv_in.weight.grad,
        stage.model.quantize.embedding.weight.grad,
    )
    assert first is not None
    assert codes is not None
    assert float(first.abs().max()) > 0
    used = codes.abs().sum(1) > 0
    assert int(used.sum()) == int(terms["codes"]) > 1
    latent = stage.model.encode(batch["rgb"].float().div(127.5).sub(1))
    coded = stage.model.quantize(latent)
    expected = float((coded - latent).detach().square().mean())
    assert float(terms["codebook"]) == pytest.approx(expected, rel=1e-4)


def test_a_run_is_measured_and_imported(settings: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "vq.json"
    path.write_text(json.dumps(settings), "utf-8")
    stages.run("vq", path, threads=1)
    model, facts = load_either(tmp_path / "vq")
    assert facts["seen"] == 8
    rgb = np.full((64, 64, 3), (180, 120, 170), np.uint8)
    ours = reconstruct(model, rgb)
    assert ours.shape == rgb.shape
    weights = tmp_path / "vq" / vq.WEIGHTS
    bundle = import_checkpoint(weights, tmp_path, name="mine", any_size=True)
    assert bundle.config["autoencoder"]["codes"] == 32
    kept = bundle.weights("autoencoder.safetensors")
    average = checkpoint.part(checkpoint.load(tmp_path / "vq")[0], "average.")
    assert np.array_equal(kept["decoder.conv_in.weight"], average["decoder.conv_in.weight"])


def test_the_shipped_configuration_is_the_published_design() -> None:
    config = load_config(VqTraining, CONFIGS / "vq_f4.json")
    assert config.model == VqConfig()


def test_a_tile_of_the_larger_small_one_costs_at_most_twelve_gflop() -> None:
    config = load_config(AutoencoderTraining, CONFIGS / "autoencoder_12gflop.json").model
    with torch.device("meta"):
        model = PixelShuffleAutoencoder(config)
        latent = torch.empty(1, config.latent_channels, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model.decode(latent)
    assert 6e9 < counter.get_total_flops() <= 12e9
