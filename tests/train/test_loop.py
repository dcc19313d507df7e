import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.train import checkpoint  # noqa: E402
from wsicodec.train.data import generator  # noqa: E402
from wsicodec.train.learning_rate import RateConfig, rate  # noqa: E402
from wsicodec.train.loop import LoopConfig, Run, uses_bf16  # noqa: E402


class LineStage:
    """Fits a line through points that depend on their index alone."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
        )

    def sample(self, index: int) -> dict[str, np.ndarray]:
        x = generator(0, index).standard_normal(3).astype(np.float32)
        return {"x": x, "y": np.array([x[0] - 2 * x[1]], np.float32)}

    def loss(self, batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        error = (self.model(batch["x"]) - batch["y"]).square().mean()
        return error, {"root": error.detach().sqrt()}

    def sheet(self) -> np.ndarray:
        return np.zeros((4, 4, 3), np.uint8)


def make(folder: Path, **changes: object) -> Run:
    loop = LoopConfig(batch=8, log_every=16, **changes)  # type: ignore[arg-type]
    return Run(LineStage(), loop, RateConfig(peak=0.01, warmup=16, total=96), folder, {"a": 1})


def test_training_learns_logs_and_draws(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.train()
    rows = [line.split(",") for line in (tmp_path / "log.csv").read_text().splitlines()]
    assert rows[0][:4] == ["seen", "seconds", "loss", "root"]
    assert [int(r[0]) for r in rows[1:]] == [16, 32, 48, 64, 80, 96]
    assert float(rows[-1][2]) < float(rows[1][2])
    assert (tmp_path / "sheet.png").exists()
    told = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert told["config"] == {"a": 1}
    assert [s["seen"] for s in told["sessions"]] == [0]
    make(tmp_path).train()
    told = json.loads((tmp_path / "run.json").read_text("utf-8"))
    assert [s["seen"] for s in told["sessions"]] == [0, 96]
    assert told["sessions"][1].keys() >= {"commit", "machine", "torch", "command"}


def test_a_resumed_run_has_the_same_next_losses(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole")
    losses = [whole.step()["loss"] for _ in range(8)]
    first = make(tmp_path / "cut")
    for _ in range(4):
        first.step()
    first.save()
    first.step()  # what a kill loses
    second = make(tmp_path / "cut")
    assert second.seen == 32
    assert [second.step()["loss"] for _ in range(4)] == losses[4:]


def test_reduced_precision_keeps_weights_single(tmp_path: Path) -> None:
    plain, reduced = make(tmp_path / "a"), make(tmp_path / "b", device="cpu", precision="bf16")
    first, second = plain.step(), reduced.step()
    assert first["loss"] != second["loss"]
    assert second["loss"] == pytest.approx(first["loss"], rel=2**-6)
    assert {p.dtype for p in reduced.stage.model.parameters()} == {torch.float32}
    assert not uses_bf16("auto", torch.device("cpu"))
    for wrong in ({"device": "tpu"}, {"precision": "fp8"}):
        with pytest.raises(ConfigError, match="expected the"):
            make(tmp_path / "c", **wrong)


def test_accumulation_changes_nothing_but_rounding(tmp_path: Path) -> None:
    plain, split = make(tmp_path / "a"), make(tmp_path / "b", accumulate=2)
    for _ in range(5):
        assert plain.step()["loss"] == pytest.approx(split.step()["loss"], rel=1e-5)


def test_a_checkpoint_holds_facts_and_no_pickle(tmp_path: Path) -> None:
    run = make(tmp_path)
    run.step()
    run.save()
    tensors, facts = checkpoint.load(tmp_path)
    assert facts["seen"] == 8
    assert facts["config"] == {"a": 1}
    assert set(checkpoint.part(tensors, "model.")) == set(run.stage.model.state_dict())
    with pytest.raises(ConfigError, match="train it first"):
        checkpoint.load(tmp_path / "nowhere")


RANK = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {here!r})
from test_loop import make
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
run = make(Path({folder!r}))
for _ in range(3):
    run.step()
run.save()
torch.distributed.destroy_process_group()
"""


def test_two_ranks_match_one(tmp_path: Path) -> None:
    one = make(tmp_path / "one")
    for _ in range(3):
        one.step()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = RANK.format(here=str(Path(__file__).parent), folder=str(tmp_path / "two"))
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    ranks = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | common | {"RANK": str(r)})
        for r in range(2)
    ]
    assert [r.wait(timeout=120) for r in ranks] == [0, 0]
    tensors, facts = checkpoint.load(tmp_path / "two")
    assert facts["seen"] == 24
    for name, value in one.stage.model.state_dict().items():
        torch.testing.assert_close(tensors[f"model.{name}"], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("seen", "expected"), [(0, 0.1), (9, 1.0), (69, 1.0), (85, 0.5), (100, 0.02)]
)
def test_the_rate_rises_holds_and_falls(seen: int, expected: float) -> None:
    config = RateConfig(peak=1.0, warmup=10, total=100, fall=0.3)
    assert rate(config, seen) == pytest.approx(expected)
