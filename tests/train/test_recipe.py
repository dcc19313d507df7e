"""The whole recipe at toy length: every stage on the output of those before it."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.toys import AUTOENCODER, RENDERER, SUMMARIZER, UNET, VIT, WIDTH

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from wsicodec.errors import BundleError, ConfigError  # noqa: E402
from wsicodec.models.bundle import Bundle  # noqa: E402
from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402
from wsicodec.train import checkpoint, stages  # noqa: E402
from wsicodec.train.bundle import load_zoomldm  # noqa: E402
from wsicodec.train.config import build, load_config, to_record  # noqa: E402
from wsicodec.train.data import (  # noqa: E402
    DataConfig,
    load_pictures,
)
from wsicodec.train.few_steps_stage import (  # noqa: E402
    LADDER,
    METHODS,
    SMALLEST,
    FewStepsStage,
    FewStepsTraining,
)
from wsicodec.train.loop import Run  # noqa: E402
from wsicodec.train.variants import VariantConfig, load_variants  # noqa: E402
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining  # noqa: E402

CONFIGS = Path(stages.__file__).parent / "configs"
LOOP = {"batch": 4, "log_every": 4}
RATE = {"total": 12, "warmup": 4}


class Recipe:
    """Runs stages in one folder from dictionaries."""

    def __init__(self, root: Path, tissue: Path, cache: Path) -> None:
        self.root = root
        self.data = {"root": str(tissue), "cache": str(cache)}
        level = {"scale_share": 0.0}  # so that shapes are known
        self.variants = {"folder": self.at("variants"), "count": 2, "augment": level}

    def at(self, name: str) -> str:
        return str(self.root / name)

    def run(self, stage: str, record: dict[str, Any]) -> None:
        path = self.root / f"{stage}.json"
        path.write_text(json.dumps(record), "utf-8")
        stages.run(stage, path, threads=1)

    def zoomldm(self) -> dict[str, Any]:
        return {
            "folder": self.at("zoomldm"), "autoencoder": self.at("autoencoder"),
            "tables": self.at("codec"), "sides": [192, 128], "data": self.data,
            "model": {"unet": UNET, "summarizer": SUMMARIZER},
            "variants": self.variants, "loop": LOOP, "rate": RATE,
        }  # fmt: skip

    def few_steps(self, method: str) -> dict[str, Any]:
        return {
            "folder": self.at(f"few_steps_{method}"), "start": self.at("zoomldm"), "share": 0.5,
            "method": method, "zoomldm": self.zoomldm(), "loop": LOOP, "rate": RATE,
        }  # fmt: skip


@pytest.fixture(scope="module")
def recipe(
    tmp_path_factory: pytest.TempPathFactory, tissue_folder: Path, pyramid_cache: Path
) -> Recipe:
    recipe = Recipe(tmp_path_factory.mktemp("runs"), tissue_folder, pyramid_cache)
    torch.manual_seed(0)
    embedder = VisionTransformer(VitConfig.from_json(VIT))
    checkpoint.save(
        Path(recipe.at("embedder")),
        {f"average.teacher.{k}": v for k, v in embedder.state_dict().items()},
        {"seen": 0, "seconds": 0.0, "config": {"model": VIT}},
    )
    common = {"data": recipe.data, "loop": LOOP, "rate": RATE}
    model = {"folder": recipe.at("autoencoder"), "side": 64, "model": AUTOENCODER}
    recipe.run("autoencoder", model | common)
    parts = {"data": recipe.data, "variants": recipe.variants}
    made = {"autoencoder": recipe.at("autoencoder"), "embedder": recipe.at("embedder")}
    recipe.run("variants", made | parts)
    recipe.run("codec", {"folder": recipe.at("codec"), "bytes_per_vector": 12.0} | parts)
    recipe.run("zoomldm", recipe.zoomldm())
    recipe.run("few_steps", recipe.few_steps("shortcut"))
    distill = {
        "folder": recipe.at("distill"), "start": recipe.at("few_steps_shortcut"), "critic": 8,
        "zoomldm": recipe.zoomldm() | {"sides": [192]}, "renderer": RENDERER,
        "loop": LOOP, "rate": RATE,
    }  # fmt: skip
    recipe.run("distill", distill)
    drawer = {"zoomldm": recipe.at("distill"), "tables": recipe.at("codec")}
    recipe.run("redraw", drawer | parts)
    runs = {"embedder": recipe.at("embedder"), "autoencoder": recipe.at("autoencoder")}
    plan = {"folder": recipe.at("bundle"), "zoomldm": recipe.at("distill"), "steps": 1}
    recipe.run("bundle", plan | runs | {"tables": recipe.at("codec")})
    val = {"fields": 2, "side": 256, "steps": [1], "out": recipe.at("chain.csv")}
    recipe.run("chain", val | plan_runs(recipe) | {"data": recipe.data})
    return recipe


def plan_runs(recipe: Recipe) -> dict[str, str]:
    names = {"embedder": "embedder", "zoomldm": "distill"}
    return {k: recipe.at(v) for k, v in names.items()} | {"tables": recipe.at("codec")}


def test_chains_are_measured_level_by_level(recipe: Recipe) -> None:
    with (recipe.root / "chain.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert [(float(r["level"]), float(r["steps"])) for r in rows] == [
        (0, 0),
        (0, 1),
        (1, 0),
        (1, 1),
    ]
    assert all(5 < float(r["psnr"]) < 60 for r in rows)
    assert all(float(r["energy_0"]) > 0 for r in rows)


def test_every_stage_logs_what_it_did(recipe: Recipe) -> None:
    for name, column in (
        ("autoencoder", "psnr"),
        ("zoomldm", "error"),
        ("few_steps_shortcut", "shift"),
        ("distill", "critic"),
    ):
        header, *rows = (recipe.root / name / "log.csv").read_text("utf-8").splitlines()
        assert column in header.split(",")
        assert len(rows) == 3
        assert (recipe.root / name / "sheet.png").exists()


def test_variants_agree_with_their_pixels(recipe: Recipe) -> None:
    pictures = load_pictures(build(DataConfig, recipe.data))
    variants = load_variants(pictures, build(VariantConfig, recipe.variants))
    assert len(variants) == 8
    for variant in variants:
        assert variant.shapes[:2] == [(384, 384), (192, 192)]
        for pictures_of in (variant.coded, variant.drawn):
            assert {k: v.shape for k, v in pictures_of.items()} == {
                1: (192, 192, 3),
                2: (96, 96, 3),
            }
        grid, valid = variant.embeddings() or pytest.fail("no embeddings")
        assert grid.shape == (2, 2, WIDTH)
        assert valid.all()
    one, other = (np.asarray(v.crop(1, 0, 0, 192)) for v in (variants[0], variants[4]))
    assert variants[0].folder.name == variants[4].folder.name
    assert not np.array_equal(one, other)


def test_samples_follow_from_their_index(recipe: Recipe) -> None:
    stage = ZoomStage(build(ZoomTraining, recipe.zoomldm()))
    first, again, other = stage.sample(5), stage.sample(5), stage.sample(6)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["noise"], other["noise"])
    assert first["latent"].shape == (4, 16, 16)
    assert first["parent"].shape == (3, 64, 64)
    assert first["cond"].shape == (WIDTH + 1, 4, 4)


@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_few_steps_learns_and_resumes(recipe: Recipe, method: str) -> None:
    config = build(FewStepsTraining, recipe.few_steps(method))

    def make(name: str) -> Run:
        here = dataclasses.replace(config, folder=recipe.at(name))
        return Run(FewStepsStage(here), here.loop, here.rate, Path(here.folder), to_record(here))

    whole, cut = make(f"{method}_whole"), make(f"{method}_cut")
    start = {k: v.clone() for k, v in whole.stage.model.state_dict().items()}
    losses = [whole.step()["loss"] for _ in range(3)]
    assert [cut.step()["loss"] for _ in range(2)] == losses[:2]
    cut.save()
    cut.step()  # what a kill loses
    assert make(f"{method}_cut").step()["loss"] == losses[2]
    for part in ("zoomldm.", "slow."):
        weights = whole.stage.model.state_dict().items()
        moved = [k for k, v in weights if k.startswith(part) and not torch.equal(v, start[k])]
        assert len(moved) > 20, part
    trained = {
        k.partition(".")[0] for k, p in whole.stage.model.named_parameters() if p.requires_grad
    }
    assert trained == {"zoomldm"}


def test_a_run_to_few_steps_is_a_denoisers_run(recipe: Recipe) -> None:
    folder = Path(recipe.at("few_steps_shortcut"))
    tensors, _ = checkpoint.load(folder)
    for name, value in load_zoomldm(folder)[0].state_dict().items():
        torch.testing.assert_close(value, tensors[f"average.zoomldm.{name}"])


def test_large_steps_are_taken_where_samplers_take_them(recipe: Recipe) -> None:
    stage = FewStepsStage(build(FewStepsTraining, recipe.few_steps("shortcut")))
    samples = [stage.sample(i) for i in range(60)]
    large = [(float(s["t"]), float(s["dt"])) for s in samples if s["dt"] > SMALLEST]
    assert 20 < len(large) < 40
    assert {step for _, step in large} == set(LADDER)
    assert all(t >= step and t / step == round(t / step) for t, step in large)
    assert all(s["dt"] <= s["t"] for s in samples)
    with pytest.raises(ConfigError, match="expected a method"):
        FewStepsStage(build(FewStepsTraining, recipe.few_steps("magic")))


def test_the_bundle_draws_the_same_on_both_runtimes(recipe: Recipe) -> None:
    from wsicodec.models.networks import Conditions, load_drawing, load_embedder

    bundle = Bundle(Path(recipe.at("bundle")))
    rng = np.random.default_rng(0)
    patches = rng.integers(0, 256, (3, 256, 256, 3), np.uint8)
    ours, theirs = (load_embedder(bundle, kind)(patches) for kind in ("onnx", "torch"))
    assert ours.shape == (3, WIDTH)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    known = Conditions(
        rng.uniform(-1, 1, (1, 3, 160, 160)).astype(np.float32),
        np.ones(1, np.float32),
        rng.standard_normal((1, WIDTH + 1, 10, 10)).astype(np.float32),
        np.zeros(1, np.int64),
    )
    x = rng.standard_normal((1, 4, 40, 40)).astype(np.float32)
    drawn = []
    for kind in ("onnx", "torch"):
        networks = load_drawing(bundle, kind)
        clean = networks.denoise(x, 1.0, 1.0, known)
        drawn.append((clean, networks.render(clean, known)))
    for one, other in zip(*drawn, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_bundle_says_how_it_was_made_without_naming_the_machine(recipe: Recipe) -> None:
    bundle = Bundle(Path(recipe.at("bundle")))
    record = bundle.config["record"]
    assert record["zoomldm"]["patches"] == 12
    assert str(recipe.root) not in json.dumps(bundle.config)
    assert bundle.config["schedule"]["steps"] == 1


def test_an_unpacked_bundle_packs_into_the_same_weights(recipe: Recipe) -> None:
    again = recipe.root / "again"
    recipe.run("unpack", {"bundle": recipe.at("bundle"), "runs": str(again)})
    runs = {k: str(again / k) for k in ("embedder", "autoencoder")}
    runs |= {"zoomldm": str(again / "distill")}
    plan = {"folder": str(again / "bundle"), "tables": str(again / "codec"), "steps": 1}
    recipe.run("bundle", plan | runs)
    before, after = Bundle(Path(recipe.at("bundle"))), Bundle(again / "bundle")
    assert after.fingerprint == before.fingerprint


def test_a_graph_that_differs_from_its_module_is_refused() -> None:
    from wsicodec.train import export

    layer = torch.nn.Conv2d(2, 3, 1)
    feeds = {"x": torch.randn(1, 2, 4, 4)}
    graph = export.graph_without_weights(layer, feeds, "y", layer.state_dict())
    assert export.check_graph(graph, layer, feeds, layer.state_dict()) < 1e-5
    wrong = {k: v + 1 for k, v in layer.state_dict().items()}
    with pytest.raises(BundleError, match="agree"):
        export.check_graph(graph, layer, feeds, wrong)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda p: p.stem)
def test_shipped_configurations_can_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []

    def remember(kind: type, given: Path) -> None:
        read.append(load_config(kind, given))
        raise InterruptedError

    monkeypatch.setattr(stages, "load_config", remember)
    stage = next(name for name in stages.STAGES if path.stem.startswith(name))
    with pytest.raises(InterruptedError):
        stages.STAGES[stage](path)
    assert not hasattr(read[0], "folder") or not Path(read[0].folder).is_absolute()
