"""The embedder's stage: its losses, samples, resumption and judgement, on drawn tissue."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

import torch

from wsicodec.errors import ConfigError
from wsicodec.models.stain_statistics import tint
from wsicodec.models.vit import VitConfig
from wsicodec.train import checkpoint, dino, embedder, embedder_eval
from wsicodec.train.config import load_config, to_record
from wsicodec.train.data import DataConfig, load_pictures
from wsicodec.train.dino import DinoConfig, Distillation
from wsicodec.train.embedder import CropConfig, EmbedderStage, EmbedderTraining
from wsicodec.train.embedder_eval import Judgement, compare
from wsicodec.train.embedding_rate import RateSweep, embed_split, sweep
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Run

pytestmark = pytest.mark.torch
VIT = VitConfig(width=24, depth=1, heads=3, patch=16, train_size=64)
COLOURS = {"a": (200, 120, 190), "b": (120, 60, 150), "c": (230, 170, 200)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Three sources in train and val; one 512 x 768 px field each, unlike in colour and grain."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    columns = ("file", "source repo", "kind", "split", "est. mpp", "sha256_16")
    rows = []
    for split in ("train", "val"):
        for number, (source, colour) in enumerate(COLOURS.items()):
            name = f"osteosarcoma_{source}_{split}.png"
            grain = rng.normal(0, 12 + 8 * number, (512 >> number, 768 >> number, 3))
            grain = grain.repeat(1 << number, 0).repeat(1 << number, 1)
            rgb = np.clip(np.array(colour) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(rgb).save(root / name)
            rows.append((name, source, "region", split, "0.5", f"{split}{source}"))
    with (root / "MANIFEST.csv").open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([columns, *rows])
    near = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return DataConfig(str(root), "train", str(root / "cache"), magnifications=near)


def training(drawn: DataConfig, folder: Path, total: int = 12) -> EmbedderTraining:
    return EmbedderTraining(
        folder=str(folder),
        model=VIT,
        dino=DinoConfig(prototypes=32, hidden=16, bottleneck=8),
        crops=CropConfig(window=96, large=64, small=32, small_count=2),
        data=drawn,
        loop=LoopConfig(batch=4, log_every=4),
        rate=RateConfig(total=total, warmup=4),
    )


def train(config: EmbedderTraining) -> Run:
    run = Run(
        EmbedderStage(config), config.loop, config.rate, Path(config.folder), to_record(config)
    )
    run.train()
    return run


def test_cross_entropy_is_between_different_views() -> None:
    target, said = torch.rand(3, 2, 5).softmax(-1), torch.randn(3, 4, 5).log_softmax(-1)
    pairs = [(g, v) for g in range(2) for v in range(4) if g != v]
    wanted = sum(float(-(target[:, g] * said[:, v]).sum(-1).mean()) for g, v in pairs)
    assert float(dino.cross_entropy(target, said)) == pytest.approx(wanted / len(pairs), rel=1e-5)


def test_balanced_shares_the_prototypes_evenly() -> None:
    scores = torch.randn(64, 8) + 4 * torch.eye(8)[0]  # nearly all want the first
    shares = dino.balanced(scores, rounds=20)
    assert float(scores.softmax(-1).mean(0)[0]) > 0.7
    torch.testing.assert_close(shares.sum(1), torch.ones(64))
    torch.testing.assert_close(shares.mean(0), torch.full((8,), 1 / 8), atol=2e-3, rtol=0)


def test_teacher_follows_by_its_half_life() -> None:
    model = Distillation(VIT, DinoConfig(prototypes=8, teacher_life=(0.05, 2000.0)))
    with torch.no_grad():
        model.student.cls_token.add_(1.0)
    gaps = []
    for patches, seen in ((0, 1000), (50, 1000), (2000, 10**9)):
        model.follow(patches, seen)
        gaps.append(float((model.student.cls_token - model.teacher.cls_token).detach().mean()))
    assert gaps == pytest.approx([1.0, 0.5, 0.25], abs=1e-5)


def test_only_the_student_learns() -> None:
    model = Distillation(VIT, DinoConfig(prototypes=8, hidden=8, bottleneck=8))
    loss, _ = model.loss(torch.rand(3, 2, 3, 64, 64) * 2 - 1, torch.rand(3, 2, 3, 32, 32))
    loss.backward()
    assert all(p.grad is not None for p in model.student.parameters())
    assert all(p.grad is None for p in model.teacher.parameters())


def test_readout_target_tells_side_and_grain() -> None:
    images = torch.ones(2, 3, 64, 64)
    images[0, :, :, 32:] = -1.0
    images[1, :, ::2, ::2] = 0.0
    target = dino.readout_target(images)
    thumbnail = target[:, :192].unflatten(1, (3, 8, 8))
    assert bool((thumbnail[0, :, :, 4:] > thumbnail[0, :, :, :4] + 5).all())
    fine = target[:, 192:208]
    assert bool((fine[1] > fine[0] + 3).all())


def test_tint_tells_the_stain_and_not_its_amount() -> None:
    amount = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) + 2
    haematoxylin, eosin = (
        torch.tensor(s)[:, None, None] for s in ((0.65, 0.7, 0.29), (0.07, 0.99, 0.1))
    )
    blue, more, pink = (
        tint(density)[0]
        for density in (haematoxylin * amount, haematoxylin * amount * 3, eosin * amount)
    )
    assert float((blue - more)[:2].abs().max()) < 0.5
    assert float((blue - pink)[:2].abs().min()) > 2
    assert float((more - blue)[2]) == pytest.approx(np.log(3) / 0.64, abs=0.1)


def test_a_run_from_a_bundle_begins_with_its_teacher(drawn: DataConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    known = Distillation(VIT, DinoConfig()).student.state_dict()
    tensors = {f"average.teacher.{k}": v for k, v in known.items()}
    checkpoint.save(tmp_path / "start", tensors, {"config": {}})
    config = dataclasses.replace(training(drawn, tmp_path / "run"), start=str(tmp_path / "start"))
    model = EmbedderStage(config).model
    for network in (model.student, model.teacher):
        assert all(torch.equal(v, known[k]) for k, v in network.state_dict().items())


def test_spread_grows_as_vectors_draw_together() -> None:
    away = torch.eye(6)
    near = away + 4.0
    assert float(dino.spread_loss(near)) > float(dino.spread_loss(away)) + 1


def test_sample_depends_on_its_index_alone(drawn: DataConfig, tmp_path: Path) -> None:
    stage = EmbedderStage(training(drawn, tmp_path))
    first, other = stage.sample(5), stage.sample(6)
    assert first["large"].shape == (2, 3, 64, 64)
    assert first["small"].shape == (2, 3, 32, 32)
    again = EmbedderStage(training(drawn, tmp_path)).sample(5)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["large"], other["large"])


def test_resumed_run_equals_an_unbroken_one(drawn: DataConfig, tmp_path: Path) -> None:
    whole = train(training(drawn, tmp_path / "whole"))
    config = training(drawn, tmp_path / "broken")
    train(dataclasses.replace(config, loop=dataclasses.replace(config.loop, stop_seen=8)))
    resumed = train(config)
    assert resumed.seen == whole.seen == 12
    ours, theirs = resumed.stage.model.state_dict(), whole.stage.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (tmp_path / "whole" / "sheet.png").exists()


def test_patches_are_named_by_their_files(drawn: DataConfig) -> None:
    patches = embedder_eval.find_patches(load_pictures(drawn), most_per_picture=4)
    assert len(patches) == 12
    assert set(patches.sources()) == {"osteosarcoma"}
    assert set(patches.tissues()) == {"osteosarcoma a", "osteosarcoma b", "osteosarcoma c"}
    assert patches.read([0, 3]).shape == (2, 256, 256, 3)
    colours = embedder_eval.mean_colour(patches)
    assert colours[0, :3] == pytest.approx(COLOURS["a"], abs=2)
    assert embedder_eval.tissue_class("x/breakhis_SOB_B_F-14.png") == "breast B"
    assert embedder_eval.tissue_class("x/oscc_1.png") == ""


def test_retrieval_counts_neighbours_of_the_same_picture(rng: np.random.Generator) -> None:
    centres = rng.normal(0, 10, (5, 8))
    names = [f"p{i}" for i in range(5) for _ in range(6)]
    vectors = np.repeat(centres, 6, 0) + rng.normal(0, 0.1, (30, 8))
    assert embedder_eval.retrieval(vectors, names) == 1.0
    assert embedder_eval.retrieval(vectors, list(rng.permutation(names))) < 0.6
    assert embedder_eval.retrieval(vectors[:7], [*names[:6], "alone"]) == 1.0


def test_precision_counts_every_rank(rng: np.random.Generator) -> None:
    line = np.array([[0.0], [1.0], [3.0], [10.0]])
    # From 0: a, b, b -> 1; from 1: a first -> 1; from 3: a, a, b -> 1/3; from 10: b first -> 1.
    value, error = embedder_eval.precision(line, ["a", "a", "b", "b"])
    assert value == pytest.approx((1 + (1 / 3 + 1) / 2) / 2)
    assert error == pytest.approx((1 / 3) / 2 / 2**0.5)


def test_whitening_makes_small_components_count(rng: np.random.Generator) -> None:
    turned = np.linalg.qr(rng.normal(0, 1, (8, 8)))[0]
    fit = (rng.normal(0, 1, (4000, 8)) * (9, 5, 3, 1, 0.5, 0.1, 0.01, 0.01)) @ turned + 3
    white = embedder_eval.whiten(fit, fit, 6)
    assert white.shape == (4000, 6)
    assert np.abs(np.cov(white.T) - np.eye(6)).max() < 1e-3
    assert np.abs(white.mean(0)).max() < 1e-3


def test_rows_of_other_columns_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    embedder_eval.write_rows(table, [{"a": 1}])
    with pytest.raises(ConfigError, match="move it away"):
        embedder_eval.write_rows(table, [{"b": 1}])


def test_probe_reads_what_is_linear_and_nothing_else(rng: np.random.Generator) -> None:
    x = rng.normal(0, 1, (300, 6)).astype(np.float32)
    names = [f"p{i % 20}" for i in range(300)]
    linear = np.where(x[:, 0] + 0.5 * x[:, 1] > 0, "up", "down").tolist()
    chance = rng.choice(["up", "down"], 300).tolist()
    for labels, low, high in ((linear, 0.9, 1.0), (chance, 0.3, 0.7)):
        fit = (x[:200], labels[:200], names[:200])
        assert low <= embedder_eval.probe(fit, (x[200:], labels[200:])) <= high


def test_run_is_compared_and_its_rates_are_measured(drawn: DataConfig, tmp_path: Path) -> None:
    folder, table = tmp_path / "run", tmp_path / "rows.csv"
    train(training(drawn, folder, total=8))
    for _ in range(2):
        rows = compare(Judgement((str(folder),), data=drawn, table=str(table)))
    assert [row["embedder"] for row in rows] == [
        "mean colour",
        "stain statistics",
        "untrained",
        "run",
    ]
    with table.open(encoding="utf-8") as lines:
        assert len(list(csv.DictReader(lines))) == 8
    rates, prefixes = (4.0, 12.0), (2, 6, 48)
    to = str(tmp_path / "rates.csv")
    low, high, short, long = sweep(
        RateSweep(str(folder), data=drawn, rates=rates, prefixes=prefixes, table=to)
    )
    assert 1 > low["relative_mse"] > high["relative_mse"]
    assert 1 > short["relative_mse"] > long["relative_mse"]
    assert (short["bytes_per_vector"], long["bytes_per_vector"]) == (2, 6)
    assert low["bytes_per_vector"] < high["bytes_per_vector"]
    assert np.load(folder / "train_vectors.npy").shape == (18, 24)


def test_grids_hold_every_vector_in_its_place(drawn: DataConfig) -> None:
    model = Distillation(VIT, DinoConfig()).teacher.eval()
    split = embed_split(model, drawn)
    grids = [grid for grid, _ in split.grids()]
    assert [grid.shape for grid in grids] == [(2, 3, 24)] * 3
    rgb = torch.tensor(split.patches.pictures[0].crop(0, 256, 512, 256)).permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = model(rgb.float() * (2 / 255) - 1)[0].numpy()
    assert min(float(np.abs(grid[1, 2] - wanted).max()) for grid in grids) < 1e-4
    assert len(split.capped_grids(6)) == 3
    assert len(split.capped_grids(0)) == 0


@pytest.mark.parametrize("name", ["embedder", "embedder_vit_s16"])
def test_shipped_configurations_are_read(name: str) -> None:
    path = Path(embedder_eval.__file__).parent / "configs" / f"{name}.json"
    config = load_config(EmbedderTraining, path)
    assert config.folder == f"runs/{name}"
    assert config.data == EmbedderTraining().data


def test_statistics_vary_as_much_as_the_token(
    drawn: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "FITTED", 64)
    config = training(drawn, tmp_path / "run")
    config = dataclasses.replace(
        config, model=dataclasses.replace(VIT, statistics=14, train_size=256)
    )
    stage = EmbedderStage(config)
    with torch.no_grad():
        before = stage.model.teacher(torch.zeros(1, 3, 256, 256))
        stage.finish()
        patches = torch.cat([stage._patches(np.random.default_rng(i)) for i in range(4)])
        vectors = stage.model.teacher(patches)
        after = stage.model.teacher(torch.zeros(1, 3, 256, 256))
    token, statistics = vectors.split([24, 14], 1)
    share = statistics.var(0).sum() / token.var(0).sum()
    assert 0.3 < float(share) < 3
    torch.testing.assert_close(after[:, :24], before[:, :24])
    assert not torch.allclose(after[:, 24:], before[:, 24:])
