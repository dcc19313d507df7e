"""All measures of one level together, with features that need no network."""

from dataclasses import replace

import numpy as np
import pytest

from wsicodec.bench import judging
from wsicodec.bench.judging import Judge, judged_squares, medians
from wsicodec.metrics.bootstrap import resample
from wsicodec.metrics.degrade import add_noise, add_seams, blur
from wsicodec.metrics.distances import frechet_distance
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.pictures import octaves

Pixels = np.ndarray
FILES = ["a", "a", "b", "c", "d", "d"]


def _features(pixels: Pixels) -> Pixels:
    return np.array([[*p.mean((0, 1)), *(np.log(e + 1) for e, _ in octaves(p))] for p in pixels])


@pytest.fixture
def judge() -> Judge:
    return Judge(
        [Extractor("plain", _features)], lambda p: _features(p) - 100, 12, similarity=False
    )


@pytest.fixture
def fields(rng: np.random.Generator) -> list[Pixels]:
    """Six fields of 512 px whose files differ in colour and in grain."""
    made = []
    for i, _ in enumerate(FILES):
        grain = rng.normal(0, 10 + 3 * i, (128, 128, 3)).repeat(4, 0).repeat(4, 1)
        fine = rng.normal(0, 8, (512, 512, 3))
        shade = rng.integers(80, 180, 3)
        made.append(np.clip(shade + grain + fine, 0, 255).astype(np.uint8))
    return made


def test_the_original_is_perfect(judge: Judge, fields: list[Pixels]) -> None:
    tissue = np.ones(24, bool)
    truth = judge.truth(0, fields, FILES, tissue)
    row = judge.measure(truth, fields, windows=True)
    assert row["fd_plain"] == pytest.approx(0, abs=1e-9)
    assert row["precision_plain"] == row["recall_plain"] == row["retrieval"] == 1
    assert row["cosine"] == pytest.approx(1)
    figures = medians(judge.pictures(truth, fields))
    assert figures["energy_0"] == figures["kurtosis_2"] == 1
    assert figures["seam"] == figures["seam_true"]


def test_damage_moves_figures_further_than_their_intervals(
    judge: Judge, fields: list[Pixels], rng: np.random.Generator
) -> None:
    tissue = np.ones(24, bool)
    truth = judge.truth(0, fields, FILES, tissue)
    light, heavy = (
        judge.measure(truth, [blur(f, radius) for f in fields], windows=False)
        for radius in (0.7, 4.0)
    )
    assert float(str(heavy["fd_plain_low"])) > float(str(light["fd_plain_high"]))
    draws = [float(v) for v in str(heavy["fd_plain_draws"]).split()]
    assert len(draws) == 12
    assert np.mean(draws) == pytest.approx(float(str(heavy["fd_plain"])), rel=1e-4)
    seamed = [add_seams(f, 20, rng) for f in fields]
    figures = medians(judge.pictures(truth, seamed))
    assert figures["seam"] > 1.2 * figures["seam_true"]


def test_a_line_along_window_borders_is_found_at_their_corners(
    judge: Judge, fields: list[Pixels], rng: np.random.Generator
) -> None:
    """Light noise everywhere: as far across windows as inside; not so with a line between them."""
    truth = judge.truth(0, fields, FILES, np.ones(24, bool))
    noisy = [add_noise(f, 4, rng) for f in fields]
    lined = [f.copy() for f in noisy]
    for field in lined:
        field[254:258], field[:, 254:258] = 0, 0
    name = "fd_plain_shifted_over_aligned"
    even, seamed = (judge.measure(truth, drawn, windows=True)[name] for drawn in (noisy, lined))
    assert 0.3 < float(str(even)) < 3
    assert float(str(seamed)) > 10
    assert np.isnan(float(str(judge.measure(truth, lined, windows=False)[name])))


def test_only_tissue_is_judged(judge: Judge, fields: list[Pixels]) -> None:
    """What is drawn where there is no tissue changes no distance."""
    tissue = np.tile([True, True, True, False], 6)
    truth = judge.truth(0, fields, FILES, tissue)
    drawn = [f.copy() for f in fields]
    for field in drawn:
        field[256:, 256:] = 0
    assert judge.measure(truth, drawn, windows=False)["fd_plain"] == pytest.approx(0, abs=1e-9)
    assert truth.groups == np.repeat(FILES, 6).tolist()


def test_wide_features_are_resampled_by_rows(
    judge: Judge, fields: list[Pixels], monkeypatch: pytest.MonkeyPatch
) -> None:
    tissue, drawn = np.ones(24, bool), [blur(f, 2.0) for f in fields]
    narrow = judge.measure(judge.truth(0, fields, FILES, tissue), drawn, windows=False)
    monkeypatch.setattr(judging, "WIDEST", 1)
    truth = judge.truth(0, fields, FILES, tissue)
    wide = judge.measure(truth, drawn, windows=False)
    assert truth.resampling == {}
    for name in ("fd_plain", "fd_plain_low", "fd_plain_high"):
        assert wide[name] == pytest.approx(narrow[name], rel=1e-6)
    found = _features(judged_squares(judging.tissue_patches(drawn, 0, tissue)))

    def distance(rows: np.ndarray) -> float:
        return frechet_distance(truth.features["plain"][rows], found[rows])

    by_hand = resample(distance, truth.groups, count=12)
    told = [float(v) for v in str(wide["fd_plain_draws"]).split()]
    assert told == pytest.approx(by_hand, rel=1e-4)


def test_few_files_have_no_interval(judge: Judge, fields: list[Pixels]) -> None:
    truth = judge.truth(0, fields[:3], FILES[:3], np.ones(12, bool))
    row = judge.measure(truth, [blur(f, 2.0) for f in fields[:3]], windows=False)
    assert np.isnan(float(str(row["fd_plain_low"])))
    assert len(str(row["fd_plain_draws"]).split()) == 1


def test_coarser_levels_are_judged_on_the_same_tissue(judge: Judge, fields: list[Pixels]) -> None:
    halves = [f[::2, ::2] for f in fields]
    truth = judge.truth(1, halves, FILES, np.ones(24, bool))
    assert truth.vectors is None
    assert len(truth.features["plain"]) == 48
    row = replace(judge, draws=6).measure(truth, halves, windows=False)
    assert np.isnan(float(str(row["cosine"])))
