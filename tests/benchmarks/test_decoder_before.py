"""A bundle with another run's denoiser draws with that one and nothing else of it."""

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("benchmarks.decoder_before", exc_type=ImportError)

from benchmarks.decoder_before import with_denoiser  # noqa: E402
from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.bundle import load_bundle  # noqa: E402
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig  # noqa: E402
from wsicodec.train import checkpoint  # noqa: E402

pytestmark = pytest.mark.torch


def a_run(folder: Path, sizes: dict[str, Any]) -> Path:
    """A run folder of a fresh denoiser."""
    model = ZoomLDM(ZoomLDMConfig.from_json(sizes))
    tensors = {f"average.{k}": v for k, v in model.state_dict().items()}
    facts = {"seen": 7, "seconds": 0.0, "config": {"model": sizes}}
    checkpoint.save(folder, tensors, facts)
    return folder


def test_the_denoiser_is_the_runs_and_all_else_is_kept(tmp_path: Path) -> None:
    small = load_bundle("small")
    run = a_run(tmp_path / "run", small.config["zoomldm"])
    made = load_bundle(with_denoiser(small, run, tmp_path / "made"))
    assert made.fingerprint != small.fingerprint
    unlike = {k for k, v in made.config["files"].items() if v != small.config["files"][k]}
    assert unlike == {"zoomldm.safetensors"}
    tensors = made.tensors("zoomldm.safetensors")
    kept = checkpoint.part(checkpoint.load(run)[0], "average.")
    assert set(tensors) == set(kept)
    for name, value in kept.items():
        assert torch.equal(torch.from_numpy(tensors[name]), value.to(torch.float16)), name


def test_a_denoiser_of_other_sizes_is_refused(tmp_path: Path) -> None:
    small = load_bundle("small")
    sizes = small.config["zoomldm"]
    narrow = sizes | {"summarizer": sizes["summarizer"] | {"width": 8}}
    run = a_run(tmp_path / "run", narrow)
    with pytest.raises(ConfigError, match="of the sizes"):
        with_denoiser(small, run, tmp_path / "made")
