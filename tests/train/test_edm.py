"""The stage that learns grids: its fields, its windows, and what comes out of a run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.models.edm import PART  # noqa: E402
from wsicodec.models.edm_config import CONTENT, OUTLINE  # noqa: E402
from wsicodec.synthesis.grid import draw_grid  # noqa: E402
from wsicodec.train import edm, stages  # noqa: E402
from wsicodec.train.config import build  # noqa: E402
from wsicodec.train.data import Picture  # noqa: E402
from wsicodec.train.edm_export import edm_part, runnable  # noqa: E402
from wsicodec.train.edm_fields import Octave, Plane, coarser, composites, sections  # noqa: E402
from wsicodec.train.edm_grids import SymbolGrid, outline  # noqa: E402

K = 3  # components
MODEL = {"components": K, "width": 16, "depth": 1, "heads": 2, "octaves": 3, "window": 8}
WINDOWS = {"sides": [8, 4], "composites": 6}


def grids() -> list[SymbolGrid]:
    """A round section, an outline of a cross, and fields of view of two other sources."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :16]
    round_one = (y - 9) ** 2 + (x - 8) ** 2 < 40
    cross = (np.abs(y - 10) < 3) | (np.abs(x - 8) < 3)

    def symbols(shape: tuple[int, ...], level: int) -> np.ndarray:
        return rng.integers(level - 2, level + 3, (*shape, K)).astype(np.int16)

    return [
        SymbolGrid("big", "slide", round_one, symbols(round_one.shape, 20)),
        SymbolGrid("far", "overview", cross, None),
        SymbolGrid("one", "region", np.ones((4, 3), bool), symbols((4, 3), -20)),
        SymbolGrid("two", "tile", np.ones((1, 1), bool), symbols((1, 1), 50)),
    ]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> edm.EdmStage:
    class Tables:
        components = K

        @classmethod
        def from_tensors(cls, tensors: Any) -> "Tables":
            return cls()

    monkeypatch.setattr(edm, "EmbeddingTables", Tables)
    monkeypatch.setattr(edm, "STATISTICS", 150)
    monkeypatch.setattr(edm, "load_tables", lambda folder: ({}, 1.0))
    for name in ("load_pictures", "load_variants"):
        monkeypatch.setattr(edm, name, lambda *_: [])
    monkeypatch.setattr(edm, "load_grids", lambda *_: grids())
    return edm.EdmStage(build(edm.EdmTraining, config(tmp_path)))


def config(folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder / "run"), "model": MODEL, "windows": WINDOWS,
        "loop": {"batch": 4, "log_every": 8}, "rate": {"total": 16, "warmup": 4},
    }  # fmt: skip


def test_an_octave_is_the_mean_over_what_is_covered() -> None:
    coverage = np.array([[1, 0, 1], [1, 0, 0]], np.float32)
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    above = coarser(Octave(coverage, vectors))
    np.testing.assert_allclose(above.coverage, [[0.5, 0.25]])
    np.testing.assert_allclose(above.vectors[..., 0], [[1.5, 2]])
    top = coarser(above)
    assert top.coverage[0, 0] == pytest.approx(3 / 16)
    assert top.vectors[0, 0, 0] == pytest.approx((0.5 * 1.5 + 0.25 * 2) / 0.75 / 2 * 2)


def test_a_composite_is_one_source_under_a_real_outline() -> None:
    made = composites(grids(), 6, 0, fewest=40)
    assert len(made) == 6
    outlines = {g.tissue.tobytes() for g in grids() if g.whole}
    for number, plane in enumerate(made):
        own = plane.symbols[plane.tissue]
        level = {"big": 20, "one": -20, "two": 50}[sorted(("big", "one", "two"))[number % 3]]
        assert np.abs(own - level).max() <= 2
        assert not plane.symbols[~plane.tissue].any()
        turned = {
            np.ascontiguousarray(t).tobytes()
            for k in range(4)
            for t in (np.rot90(plane.tissue, k), np.rot90(plane.tissue, k)[:, ::-1])
        }
        assert turned & outlines


def test_composites_need_an_outline() -> None:
    with pytest.raises(ConfigError, match="0 outlines and 2 sources"):
        composites(grids()[2:], 1, 0, fewest=1)
    assert sections(grids()[1:], 1) == []


def test_windows_reach_beyond_the_slide_and_say_so(stage: edm.EdmStage) -> None:
    sizes = set()
    for index in range(60):
        sample = stage.sample(index)
        side = sample["clean"].shape[0]
        sizes.add(side)
        outside = sample["inside"] == 0
        assert sample["clean"].shape == (side, side, 1 + K)
        assert (sample["clean"][outside][:, 0] == -1).all()
        covered = sample["clean"][..., 0] > -1
        assert not sample["clean"][~covered][:, 1:].any()
    assert sizes == {8, 4}


def test_a_sample_is_a_function_of_its_index(stage: edm.EdmStage) -> None:
    first, again, other = stage.sample(7), stage.sample(7), stage.sample(8)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not np.array_equal(first["noise"][:4, :4], other["noise"][:4, :4])


def test_the_octave_above_lies_over_its_own_cells(stage: edm.EdmStage) -> None:
    tissue = np.zeros((16, 16), bool)
    tissue[4:10, 6:12] = True
    plane = Plane(tissue, np.where(tissue[..., None], 7, 0).astype(np.int16).repeat(K, 2))
    stage.sections = stage.composites = [plane]
    for number in range(20):
        cut = stage._cut(np.random.default_rng(number), 0, 8)
        pooled = cut.own.coverage.reshape(4, 2, 4, 2).mean((1, 3)).repeat(2, 0).repeat(2, 1)
        np.testing.assert_allclose(cut.above.coverage, pooled, atol=1e-6)


def test_only_what_is_noisy_is_hidden() -> None:
    z = torch.zeros(2, 2, 2, 1 + K)
    z[..., 0] = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    z[..., 1:] = 5 * (z[..., :1] > 0)
    noise = torch.full_like(z, 100.0)
    x, noisy = edm.noised(z, noise, torch.tensor([0.5, 0.5]), torch.tensor([OUTLINE, CONTENT]))
    assert noisy[0, ..., 0].all()
    assert not noisy[0, ..., 1:].any()
    assert not x[0, ..., 1:].any()
    assert torch.equal(x[1, ..., 0], z[1, ..., 0])
    assert torch.equal(noisy[1, ..., 1] > 0, z[1, ..., 0] > 0)
    assert x[1, 0, 0, 1] == 0.5 * 5 + 0.5 * 100
    assert x[1, 0, 1, 1] == 0


def test_coefficients_are_white(stage: edm.EdmStage) -> None:
    rows = []
    for number in range(300):
        cut = stage._cut(np.random.default_rng(number), 0, 8)
        channels = stage.channels(cut.own, 0)
        rows.append(channels[channels[..., 0] > -1][:, 1:])
    found = np.concatenate(rows)
    assert np.abs(found.mean(0)).max() < 0.3  # unwhitened: 20 or more
    np.testing.assert_allclose(found.std(0), 1, atol=0.3)


def test_a_run_learns_and_its_model_draws(
    stage: edm.EdmStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edm, "EdmStage", lambda _: stage)
    path = tmp_path / "edm.json"
    path.write_text(json.dumps(config(tmp_path)))
    stages.run("edm", path, threads=1)
    header, *rows = (tmp_path / "run/log.csv").read_text().splitlines()
    assert {"content", "outline"} <= set(header.split(","))
    assert len(rows) == 2
    settings, parts, facts = edm_part(tmp_path / "run")
    assert settings == {**MODEL, "mlp_ratio": 4}
    assert list(parts) == [PART]
    assert facts["seen"] == 16
    network = runnable(tmp_path / "run")
    np.testing.assert_allclose(network.mean, stage.model.mean.numpy(), rtol=1e-3)
    assert draw_grid(network, (9, 5), 0, steps=2).tissue.shape == (9, 5)


def test_the_loss_falls_to_what_cannot_be_known(stage: edm.EdmStage) -> None:
    from wsicodec.train.learning_rate import RateConfig
    from wsicodec.train.loop import LoopConfig, Run

    loop = LoopConfig(batch=4, average=64)
    run = Run(stage, loop, RateConfig(peak=3e-3, warmup=40, total=10**6), Path("unused"), {})
    losses = [run.step()["loss"] for _ in range(80)]
    assert np.mean(losses[-20:]) < 0.85 * np.mean(losses[:20])


def test_tables_of_other_components_are_refused(stage: edm.EdmStage, tmp_path: Path) -> None:
    record = config(tmp_path) | {"model": {**MODEL, "components": 5}}
    with pytest.raises(ConfigError, match=r"expected tables of 5 components, got 3"):
        edm.EdmStage(build(edm.EdmTraining, record))


def test_an_overview_gives_the_outline_of_its_stain() -> None:
    rgb = np.full((80, 120, 3), 240, np.uint8)
    rgb[16:48, 40:64] = (200, 120, 170)
    picture = Picture("o", "s", "overview", 16.0, [rgb], np.ones((2, 3), np.float32))
    wanted = np.zeros((10, 15), bool)
    wanted[2:6, 5:8] = True
    np.testing.assert_array_equal(outline(picture), wanted)
