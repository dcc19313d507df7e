"""The held-out encoder's stage: samples, contrast, and the way from a run to a judge."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from wsicodec.errors import BundleError
from wsicodec.metrics.degrade import KINDS
from wsicodec.metrics.held_out import WEIGHTS, HeldOutConfig, load_held_out
from wsicodec.train.config import load_config, to_record
from wsicodec.train.data import DataConfig
from wsicodec.train.held_out import HeldOutStage, HeldOutTraining, contrast
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig
from wsicodec.train.stages import run

pytestmark = pytest.mark.torch


@pytest.fixture
def config(tissue_folder: Path, pyramid_cache: Path, tmp_path: Path) -> HeldOutTraining:
    return HeldOutTraining(
        folder=str(tmp_path / "run"),
        ship=str(tmp_path / "shipped" / "judge.safetensors"),
        model=HeldOutConfig((4, 8, 8, 8)),
        window=80,
        crop=48,
        standard_crops=32,
        data=DataConfig(root=str(tissue_folder), cache=str(pyramid_cache), source_cap=0.6),
        loop=LoopConfig(batch=4, log_every=4, sheet_seconds=0),
        rate=RateConfig(1e-3, 4, 12, 0.5),
    )


def test_a_sample_follows_from_its_index(config: HeldOutTraining) -> None:
    stage = HeldOutStage(config)
    first, again, other = (stage.sample(i) for i in (5, 5, 6))
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["clean"], other["clean"])
    assert first["clean"].shape == (2, 3, 48, 48)
    assert first["bad"].shape == (3, 48, 48)
    drawn = [stage.sample(i) for i in range(80)]
    assert {int(s["kind"]) for s in drawn} == set(range(len(KINDS)))
    assert {float(s["strength"]) for s in drawn} >= {0.0, 0.5, 1.0}


def test_contrast_by_hand() -> None:
    """Two windows; twins agree, all else is orthogonal: the twin is one of five, at e^(1 / t)."""
    crops = torch.eye(4)[[0, 1, 0, 1, 2, 3]]
    expected = -np.log(np.exp(2) / (np.exp(2) + 4))
    assert float(contrast(crops, 2, 0.5)) == pytest.approx(expected, rel=1e-6)


def test_a_damaged_crop_that_looks_like_its_window_costs() -> None:
    apart, alike = torch.eye(4)[[0, 1, 0, 1, 2, 3]], torch.eye(4)[[0, 1, 0, 1, 0, 1]]
    assert float(contrast(alike, 2, 0.5)) > float(contrast(apart, 2, 0.5)) + 0.3


def test_a_run_ends_in_a_judge(config: HeldOutTraining, tmp_path: Path) -> None:
    """Trained, drawn without a sheet, resumed without a step, shipped, and loaded again."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_record(config)))
    assert load_config(HeldOutTraining, path) == config
    run("held_out", path, 1)
    run("held_out", path, 1)
    record = json.loads(Path(config.ship).with_suffix(".json").read_text())
    assert record["windows_seen"] == 12
    assert str(tmp_path) not in json.dumps(record)
    judge = load_held_out(Path(config.ship))
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    assert judge(images).shape == (2, 24)
    assert torch.equal(judge(images)[:1], judge(images[:1]))


def test_other_bytes_than_the_record_says_are_refused(
    config: HeldOutTraining, tmp_path: Path
) -> None:
    weights = tmp_path / "w.safetensors"
    with pytest.raises(BundleError, match="held-out"):
        load_held_out(weights)
    weights.write_bytes(b"other")
    weights.with_suffix(".json").write_text(json.dumps({"sha256": "0" * 64, "widths": [4] * 4}))
    with pytest.raises(BundleError, match="damaged"):
        load_held_out(weights)


def test_nothing_else_in_training_sees_the_judge() -> None:
    """A judge who also coaches is no judge."""
    import wsicodec.train

    folder = Path(wsicodec.train.__file__).parent
    others = [p for p in folder.rglob("*.py") if p.name != "held_out.py"]
    assert len(others) > 20
    for path in others:
        text = path.read_text(encoding="utf-8")
        assert "metrics.held_out" not in text, path
        assert "metrics.features" not in text, path


def test_the_shipped_weights_are_those_of_the_record() -> None:
    record = json.loads(WEIGHTS.with_suffix(".json").read_text())
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == record["sha256"]
    assert WEIGHTS.stat().st_size < 3_000_000
    assert sum(p.numel() for p in load_held_out().parameters()) < 1_500_000


def test_the_shipped_configuration_is_known() -> None:
    path = Path(__file__).parents[2] / "wsicodec" / "train" / "configs" / "held_out.json"
    if not path.exists():
        pytest.skip("the configuration is not beside the tests")
    assert load_config(HeldOutTraining, path).ship.endswith(WEIGHTS.name)
