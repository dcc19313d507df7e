"""The whole recipe at toy length: pack, slices on a machine with little installed, collect."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.train import checkpoint, stages  # noqa: E402
from wsicodec.train.bundle import load_embedder, load_renderer, load_zoomldm  # noqa: E402
from wsicodec.train.card import archive  # noqa: E402
from wsicodec.train.card.loop import StageRun  # noqa: E402
from wsicodec.train.card.slice import Slice, SliceOptions  # noqa: E402
from wsicodec.train.card.stages import new_stage  # noqa: E402
from wsicodec.train.card.tissue import decode  # noqa: E402
from wsicodec.train.config import build  # noqa: E402
from wsicodec.train.distill import DistillTraining  # noqa: E402

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[3]
# What torch itself brings along; whatever else is installed here is not there for the slice.
TORCHS = (
    "torch torchgen functorch triton sympy mpmath networkx jinja2 markupsafe filelock fsspec "
    "typing_extensions"
)
BARE = f"""
import runpy, sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
class Bare:
    known = {{"wsicodec", "numpy", "PIL", *"{TORCHS}".split(), *sys.stdlib_module_names}}
    def find_spec(self, name, path=None, target=None):
        first = name.split(".")[0]
        if first in self.known or first.startswith("_"):
            return PathFinder.find_spec(name, path, target)
        return None
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Bare()]
runpy.run_module("MODULE", run_name="__main__")
"""


class Rehearsal:
    """A pack, two slices of one plan, and what came back."""

    def __init__(self, runs: Any) -> None:
        self.runs = runs
        record = {"slices": 2, "variants": 2, "save_seconds": 0.5, "log_seconds": 0.2}
        parts = [runs.stage("zoomldm", 0.4), runs.stage("distill", 0.6)]
        self.plan = runs.write("plan", record | {"stages": parts})

    def options(self, name: str, pack: str = "pack", state: str = "state") -> SliceOptions:
        packed, out, kept = (Path(self.runs.at(folder)) for folder in (pack, name, state))
        return SliceOptions(packed, out, kept, self.plan, seconds=4, device="cpu", commit="abc")

    def bare(self, options: SliceOptions) -> subprocess.CompletedProcess[str]:
        given = {name: str(getattr(options, name)) for name in SliceOptions.__slots__}
        flags = [part for name, value in given.items() for part in (f"--{name}", value)]
        return subprocess.run(
            [sys.executable, "-c", BARE.replace("MODULE", "wsicodec.train.card"), *flags],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def collect(self, name: str) -> Path:
        folders = {"folder": self.runs.at(name), "runs": self.runs.at(f"{name}_runs")}
        stages.run("collect", self.runs.write("collecting", folders), threads=1)
        return Path(folders["runs"])

    def record(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.runs.at(name), "record.json").read_text())
        return found


@pytest.fixture(scope="module")
def rehearsal(runs: Any) -> Rehearsal:
    rehearsal = Rehearsal(runs)
    done = rehearsal.bare(rehearsal.options("first"))
    assert done.returncode == 0, done.stderr
    Slice(rehearsal.options("second"), time.monotonic()).run()
    return rehearsal


def test_the_bare_interpreter_lacks_what_a_card_lacks() -> None:
    code = BARE.replace("MODULE", "safetensors.torch")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "No module named 'safetensors'" in done.stderr


def test_a_slice_brings_back_few_small_files(rehearsal: Rehearsal) -> None:
    found = {p.name: p.stat().st_size for p in Path(rehearsal.runs.at("first")).iterdir()}
    assert set(found) == {"weights0.npz", "log.csv", "sheet.png", "record.json"}
    assert max(found.values()) < 16 << 20
    record = rehearsal.record("first")
    assert record["commit"] == "abc"
    assert record["torch"] == torch.__version__
    assert record["begun"] == 1
    assert 0 < record["progress"] <= 0.5


def test_a_second_slice_goes_on_from_the_state(rehearsal: Rehearsal) -> None:
    first, second = rehearsal.record("first"), rehearsal.record("second")
    assert second["begun"] == 2
    assert second["progress"] > first["progress"]
    for stage in second["seen"]:
        seen = [r["seen"].get(stage, 0) for r in (first, second)]
        steps = [r["steps"].get(stage, 0) for r in (first, second)]
        assert seen[1] - seen[0] == 4 * steps[1]
    assert first["seen"]["zoomldm"] == 1000 + 4 * first["steps"]["zoomldm"]
    assert second["steps"]["distill"] > 0


def test_a_finished_plan_is_not_begun_again(rehearsal: Rehearsal) -> None:
    options = rehearsal.options("third")
    arrays, facts = archive.load(options.state / "state.npz")
    folder = Path(rehearsal.runs.at("done"))
    archive.save(folder / "state.npz", arrays, facts | {"progress": 1.0})
    with pytest.raises(ConfigError, match="the plan is done"):
        Slice(rehearsal.options("third", state="done"), time.monotonic())
    archive.save(folder / "state.npz", arrays, facts | {"plan": {}})
    with pytest.raises(ConfigError, match="of this plan"):
        Slice(rehearsal.options("third", state="done"), time.monotonic())


def test_run_folders_are_those_of_home(rehearsal: Rehearsal) -> None:
    runs, record = rehearsal.collect("second"), rehearsal.record("second")
    _, facts = checkpoint.load(runs / "distill")
    assert facts["seen"] == record["seen"]["distill"]
    assert facts["card"]["commit"] == "abc"
    build(DistillTraining, facts["config"])
    zoomldm, renderer = load_zoomldm(runs / "distill")[0], load_renderer(runs / "distill")[0]
    came = archive.load_parts(Path(rehearsal.runs.at("second")), "weights")
    for name, network in (("zoomldm", zoomldm), ("renderer", renderer)):
        for key, value in network.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), came[f"{name}.{key}"].astype(np.float32))
    start = load_zoomldm(Path(rehearsal.runs.at("zoomldm")))[0].state_dict()
    assert any(not torch.equal(start[k], v) for k, v in zoomldm.state_dict().items())
    with (runs / "distill" / "log.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert rows
    assert all(float(row["critic"]) > 0 for row in rows)
    assert decode(runs / "distill" / "sheet.png").shape == (3 * 192, 6 * 192, 3)


def test_another_machine_goes_on_from_the_carried_weights(rehearsal: Rehearsal) -> None:
    runs, record = rehearsal.collect("first"), rehearsal.record("first")
    at = {"folder": rehearsal.runs.at("pack2"), "standing": str(runs / "record.json")}
    if "distill" in record["seen"]:
        at |= {"zoomldm": str(runs / "distill")}
    else:
        at |= {"zoomldm": str(runs / "zoomldm")}
    config = rehearsal.runs.write("packing2", rehearsal.runs.packing(**at))
    stages.run("pack", config, threads=1)
    options = rehearsal.options("fresh", pack="pack2", state="elsewhere")
    Slice(options, time.monotonic()).run()
    fresh = rehearsal.record("fresh")
    assert fresh["begun"] == 2
    assert fresh["progress"] > record["progress"]
    seen = {k: record["seen"].get(k, 0) + 4 * fresh["steps"].get(k, 0) for k in fresh["seen"]}
    assert fresh["seen"] == seen


@pytest.mark.parametrize("name", ["embedder", "autoencoder", "zoomldm", "distill"])
def test_every_stage_goes_on_exactly(rehearsal: Rehearsal, name: str) -> None:
    record = {"slices": 1, "variants": 1, "stages": [rehearsal.runs.stage(name)]}
    rehearsal.plan = rehearsal.runs.write(f"plan_{name}", record)
    deck = Slice(rehearsal.options(name, state=name), time.monotonic()).deck

    def begin(batches: int) -> StageRun:
        stage = new_stage(deck.plan.stages[0], deck, 0, fresh=name != "distill")
        return StageRun(stage, deck, 4 * batches, batches)

    run = begin(0)
    for _ in range(4):
        run.step(0.5)
    kept = run.state()
    means = run.means()
    assert all(np.isfinite(v) for v in means.values())
    again = begin(4)
    again.restore(kept)
    run.warm = True
    for one in (run, again):
        one.step(0.5)
    assert run.means() == again.means()
    with run.averaged(), torch.no_grad():
        run.stage.finish()
        assert run.stage.sheet().dtype == np.uint8
    groups = run.stage.groups(run.stage.model.state_dict())
    assert sum(map(len, groups.values())) == len(run.stage.model.state_dict())


def test_a_new_embedder_brings_new_tables(rehearsal: Rehearsal) -> None:
    record = {"slices": 1, "variants": 1, "stages": [rehearsal.runs.stage("embedder")]}
    rehearsal.plan = rehearsal.runs.write("plan_tables", record)
    one = Slice(rehearsal.options("tables", state="tables"), time.monotonic())
    before = one.deck.tables.fingerprint
    one.run()
    assert one.deck.tables.fingerprint != before
    runs = rehearsal.collect("tables")
    embedder, facts = load_embedder(runs / "embedder", "average.teacher.")
    assert embedder.config.width == 24
    assert facts["seen"] > 1000
    packing = rehearsal.runs.packing(
        folder=rehearsal.runs.at("pack3"), embedder=str(runs / "embedder"),
        tables=str(runs / "codec"), whole_embedder=False, anchors=1,
    )  # fmt: skip
    stages.run("pack", rehearsal.runs.write("packing3", packing), threads=1)
    index = json.loads(Path(rehearsal.runs.at("pack3"), "pack.json").read_text())
    assert index["scale"] == pytest.approx(one.deck.scale)
