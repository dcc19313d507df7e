"""The table of magnifications from end to end at toy size, on the output of the other stages."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("benchmarks.magnifications", exc_type=ImportError)

from benchmarks import magnifications, record  # noqa: E402
from benchmarks.magnifications_plot import plot  # noqa: E402
from wsicodec.metrics.features import Extractor  # noqa: E402
from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402
from wsicodec.train import checkpoint, stages  # noqa: E402
from wsicodec.train.config import build  # noqa: E402

pytestmark = pytest.mark.torch
VIT = {"width": 24, "depth": 1, "heads": 2, "patch": 16, "train_size": 256}
LOOP = {"batch": 4, "log_every": 4}
RATE = {"total": 4, "warmup": 2}
UNET = {
    "latent_channels": 4, "widths": [8, 12, 16], "down_blocks": [1, 1, 1], "up_blocks": [1, 1, 1],
    "embedding": 16, "cond": 8,
}  # fmt: skip


def tissue(seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(90, 200, (side // 16, side // 16, 3), np.uint8)
    small[..., 1] //= 2
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run folders of every stage before, and the configuration of the table."""
    root = tmp_path_factory.mktemp("runs")
    rows = ["file,source repo,kind,split,est. mpp,sha256_16"]
    for number in range(3):
        Image.fromarray(tissue(number, 768)).save(root / f"{number}.png")
        rows.append(f"{number}.png,s{number},slide,train,0.5,{number:016x}")
    (root / "MANIFEST.csv").write_text("\n".join(rows) + "\n", "utf-8")
    common = {
        "data": {"root": str(root), "cache": str(root / "pyramids")},
        "variants": {"folder": str(root / "variants"), "count": 1},
    }

    def run(stage: str, settings: dict[str, Any]) -> None:
        path = root / f"{stage}.json"
        path.write_text(json.dumps(settings))
        stages.run(stage, path, threads=1)

    torch.manual_seed(0)
    embedder = VisionTransformer(VitConfig.from_json(VIT))
    checkpoint.save(
        root / "embedder",
        {f"average.teacher.{k}": v for k, v in embedder.state_dict().items()},
        {"seen": 0, "seconds": 0.0, "config": {"model": VIT}},
    )
    sizes = {"latent_channels": 4, "widths": [8, 8, 8]}
    autoencoder = {"folder": str(root / "autoencoder"), "side": 64, "model": sizes}
    run("autoencoder", autoencoder | {"data": common["data"], "loop": LOOP, "rate": RATE})
    folders = {"autoencoder": str(root / "autoencoder"), "embedder": str(root / "embedder")}
    run("variants", folders | common)
    run("codec", {"folder": str(root / "codec"), "bytes_per_vector": 12.0} | common)
    components = json.loads((root / "codec" / "scale.json").read_text())["components"]
    edm = {
        "folder": str(root / "edm"), "tables": str(root / "codec"),
        "model": {
            "components": components, "width": 16, "depth": 1, "heads": 1, "octaves": 2,
            "window": 8,
        },
        "windows": {"sides": [8], "composites": 2, "fewest": 4},
        "loop": LOOP, "rate": RATE,
    }  # fmt: skip
    run("edm", edm | common)
    training = {
        "autoencoder": folders["autoencoder"], "tables": str(root / "codec"), "sides": [128],
        "model": {"unet": UNET, "summarizer": {"embedding_width": 24, "width": 8, "blocks": 1}},
        "loop": LOOP, "rate": RATE,
    }  # fmt: skip
    return {
        "folder": str(root / "mags"), "training": training | common, "edm": str(root / "edm"),
        "pictures": 6, "side": 128, "steps": 1, "draws": 3,
    } | common  # fmt: skip


def means(pixels: np.ndarray) -> np.ndarray:
    quarters = pixels.reshape(len(pixels), 2, 64, 128, 3).mean((2, 3))
    return np.asarray(quarters.reshape(len(pixels), -1))


@pytest.fixture(scope="module")
def rows(comparison: dict[str, Any]) -> list[record.Row]:
    given = build(magnifications.Comparison, comparison)
    return list(magnifications.compare(given, Extractor("held_out", means)))


def test_the_table_has_every_model_magnification_and_kind_of_condition(
    rows: list[record.Row],
) -> None:
    found = {(r.subject, r.setting) for r in rows if r.metric == "fd_held_out"}
    mags = {r.setting for r in rows if r.metric == "fd_real_halves"}
    assert {"20x", "10x"} <= mags
    for mag in mags:
        for subject in (magnifications.ALL, "one magnification"):
            assert (subject, f"{mag} oracle") in found
            assert (subject, f"{mag} none") in found
    assert any(setting.endswith("generated") for _, setting in found)


def test_figures_have_counts_and_intervals(rows: list[record.Row]) -> None:
    for row in rows:
        assert row.value >= 0
        assert "real of" in row.note
        if row.metric == "fd_held_out":
            assert row.low <= row.value <= row.high
            assert "4 patches a model" in row.note


def test_all_models_have_one_size_and_one_budget(
    rows: list[record.Row], comparison: dict[str, Any]
) -> None:
    sizes = set()
    for folder in sorted(Path(comparison["folder"]).iterdir()):
        tensors, facts = checkpoint.load(folder)
        model = checkpoint.part(tensors, "model.")
        sizes.add((facts["seen"], sum(v.numel() for v in model.values())))
        shares = facts["config"]["data"]["magnifications"]
        assert sum(shares) == pytest.approx(1)
    assert len(sizes) == 1


def test_rows_that_stand_are_not_made_again(
    rows: list[record.Row],
    comparison: dict[str, Any],
    tmp_path: Path,
) -> None:
    given = build(magnifications.Comparison, comparison)
    path = record.write("table", rows, tmp_path)
    known = magnifications.finished(path, given)
    assert known == {(r.subject, r.setting, r.metric) for r in rows}
    judge = Extractor("held_out", means)
    one = ("one magnification", "20x none", "fd_held_out")
    again = list(magnifications.compare(given, judge, known=known - {one}))
    assert one in {(r.subject, r.setting, r.metric) for r in again}
    assert {r.setting.partition(" ")[0] for r in again} == {"20x"}
    others = dataclasses.replace(given, steps=2)
    assert magnifications.finished(path, others) == set(), "another configuration's rows"


def test_the_table_is_drawn(rows: list[record.Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = record.write("table", rows, tmp_path)
    made = plot(path, tmp_path / "table.png", ["10x", "20x"], (magnifications.ALL, "x"))
    assert made.stat().st_size > 1000


def test_models_are_one_of_all_and_one_of_each() -> None:
    told = magnifications.models([0, 2])
    assert list(told) == [magnifications.ALL, "20x", "5x"]
    assert told[magnifications.ALL][:3] == (0.5, 0, 0.5)
    assert told["5x"] == (0, 0, 1, 0, 0, 0, 0, 0)
