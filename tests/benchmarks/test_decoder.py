"""The decoder's benchmark: what its figures rest on, and that nothing is made twice."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("benchmarks.decoder", exc_type=ImportError)

from benchmarks import decoder, decoder_training
from benchmarks.decoder_jobs import KEYS, Setting, compared_with, key, plan
from benchmarks.decoder_measures import (
    AMONG,
    JUDGE,
    Ground,
    diagonal_distance,
    found_again,
    grey_change,
    remembered,
)
from benchmarks.decoder_plot import plot
from benchmarks.decoder_sheets import SIDE, chosen, sheet, small_jpeg, write_sheets
from benchmarks.decoder_tables import guarded, write_tables
from benchmarks.decoder_variants import (
    ENLARGED,
    EXCHANGED,
    PARENT,
    RAW,
    SHIPPED,
    UNLOCKED,
    ZEROED,
    Variant,
    cells,
    drawing,
    files,
    partners,
)
from wsicodec.bench.fields import Field, Mosaic, cut, lay_out
from wsicodec.bench.judging import Judge
from wsicodec.errors import ConfigError
from wsicodec.metrics.features import Extractor
from wsicodec.train.config import load_config

pytestmark = pytest.mark.torch
CONFIGS = Path(decoder.__file__).parent / "configs"
Row = dict[str, str]


def _values(patches: np.ndarray) -> np.ndarray:
    return patches.reshape(len(patches), -1).astype(np.float64)


@pytest.fixture(scope="module")
def mosaic(drawn_slide: Path) -> Mosaic:
    """One field of four tiles."""
    whole = cut(drawn_slide, None, 4)[0]
    return lay_out("one", [Field("a", "a.tif", np.ascontiguousarray(whole.rgb[:512, :512]))])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the stores of this module lie."""
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="module")
def shipped(mosaic: Mosaic, work: Path) -> np.ndarray:
    """Level 0 as a reader gets it."""
    with drawing(mosaic, Variant("small", "standard"), work) as drawn:
        return drawn.level(0)[0]


def level_0(mosaic: Mosaic, work: Path, **more: Any) -> np.ndarray:
    with drawing(mosaic, Variant("small", "standard", **more), work) as drawn:
        return drawn.level(0)[0]


def test_the_same_way_draws_the_same_pixels(
    mosaic: Mosaic, work: Path, shipped: np.ndarray
) -> None:
    np.testing.assert_array_equal(level_0(mosaic, work), shipped)
    assert (level_0(mosaic, work, seed=1) != shipped).any()


@pytest.mark.parametrize("change", [ZEROED, RAW, EXCHANGED])
def test_networks_are_told_what_the_way_says(
    mosaic: Mosaic, work: Path, shipped: np.ndarray, change: str
) -> None:
    with drawing(mosaic, Variant("small", "standard", change=change), work) as drawn:
        pixels, stored, told = drawn.level(0)[0], drawn.vectors, drawn.told_vectors
    assert (pixels != shipped).any()
    if change == ZEROED:
        assert not told.any()
    elif change == EXCHANGED:
        np.testing.assert_array_equal(told, np.roll(stored, len(stored) // 2, 0))
    else:
        difference = np.linalg.norm(told - stored) / np.linalg.norm(stored)
        assert 0 < difference < 1, "the same vectors but for what quantising took"
    np.testing.assert_array_equal(level_0(mosaic, work), shipped, "and nothing stays of it")


def local_means(rgb: np.ndarray, side: int = 16) -> np.ndarray:
    """What `lock_colour` takes of the parent."""
    blocks = rgb.reshape(rgb.shape[0] // side, side, rgb.shape[1] // side, side, 3)
    return np.asarray(blocks.mean((1, 3)).repeat(side, 0).repeat(side, 1))


def test_unlocked_colours_are_free_only_meanwhile(
    mosaic: Mosaic, work: Path, shipped: np.ndarray
) -> None:
    free = level_0(mosaic, work, change=UNLOCKED)
    assert (free != shipped).any()
    detail = [rgb - local_means(rgb) for rgb in (free.astype(float), shipped.astype(float))]
    assert np.abs(detail[0] - detail[1]).mean() < np.abs(free - shipped.astype(float)).mean()
    np.testing.assert_array_equal(level_0(mosaic, work), shipped)


def test_drawing_may_start_from_the_parent(mosaic: Mosaic, work: Path, shipped: np.ndarray) -> None:
    found = level_0(mosaic, work, change=PARENT)
    assert found.shape == shipped.shape
    assert (found != shipped).any()


def test_the_enlarged_anchor_is_the_stored_picture(mosaic: Mosaic, work: Path) -> None:
    with drawing(mosaic, Variant("small", "standard", change=ENLARGED), work) as enlarged:
        stored, finest = enlarged.level(2)[0], enlarged.level(0)[0]
    with drawing(mosaic, Variant("small", "standard"), work) as drawn:
        np.testing.assert_array_equal(drawn.level(2)[0], stored)
    assert (
        np.abs(np.diff(finest.astype(int), axis=0)).mean()
        < np.abs(np.diff(stored.astype(int), axis=0)).mean()
    )


def test_an_unknown_change_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a change"):
        Variant("small", "standard", change="upside down")


def test_partners_are_others_of_the_same_file() -> None:
    owners = np.array(["a"] * 4 + ["b"] * 5)
    found = partners(owners)
    assert (found != np.arange(9)).all()
    assert sorted(found) == list(range(9))
    assert (owners[found] == owners).all()


def test_patches_are_numbered_field_by_field(mosaic: Mosaic) -> None:
    places = cells(mosaic)
    assert len(places) == mosaic.tissue.sum() == len(files(mosaic))
    region = mosaic.fields[0].region
    assert (places[:, 0] * 256 >= region.y0).all()
    assert (places[:, 1] * 256 < region.x1).all()


def test_a_fields_own_distance_is_that_of_means_and_deviations() -> None:
    a = np.array([[0.0, 0], [2, 4]])
    assert diagonal_distance(a, a) == 0
    assert diagonal_distance(a, a + 1) == pytest.approx(2)
    assert diagonal_distance(a, np.tile(a.mean(0), (2, 1))) == pytest.approx(1 + 4)


def test_tiles_are_found_again_or_not(rng: np.random.Generator) -> None:
    vectors = rng.standard_normal((150, 32)).astype(np.float32)
    owners = np.array(["x_1"] * 120 + ["y_1"] * 30)
    found = found_again(vectors, vectors, owners)
    assert found == {"retrieval_100": 1, "retrieval_100_source": 1}
    mixed = found_again(vectors, rng.standard_normal(vectors.shape), owners)
    assert mixed["retrieval_100"] < 0.1
    few = found_again(vectors[: AMONG - 1], vectors[: AMONG - 1], owners[: AMONG - 1])
    assert np.isnan(list(few.values())).all()


def test_changes_are_told_in_grey_levels(mosaic: Mosaic) -> None:
    one = [f.rgb // 2 for f in mosaic.fields]
    assert grey_change(mosaic, one, one) == 0
    assert grey_change(mosaic, one, [rgb + 7 for rgb in one]) == pytest.approx(7)


@pytest.fixture
def counted(mosaic: Mosaic) -> tuple[Ground, list[int]]:
    """The field, and how many pictures its judge has looked at in every call."""
    seen: list[int] = []

    def run(pixels: np.ndarray) -> np.ndarray:
        seen.append(len(pixels))
        return pixels.reshape(len(pixels), -1)[:, ::997].astype(np.float64)

    judge = Judge([remembered(Extractor(JUDGE, run))], None, draws=4, similarity=False)
    return Ground(mosaic, judge), seen


def test_a_stored_level_is_judged_once(
    counted: tuple[Ground, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the levels below it are drawn, and for each field alone as for all together."""
    ground, seen = counted
    anchor = [rgb // 2 for rgb in ground.level(2)]
    first = ground.figures(2, anchor)
    assert len(seen) == 2, "the original and the anchor"
    monkeypatch.setattr(Judge, "pictures", None)
    assert str(ground.figures(2, [rgb.copy() for rgb in anchor])) == str(first)  # NaN among them
    [alone] = ground.of_fields(2, anchor)
    assert alone["psnr"] == first["psnr"]
    assert alone["own_distance"] > 0
    assert len(seen) == 2
    assert "own_distance" not in ground.pictures(2, anchor)[0]


def test_other_pixels_are_judged_again(counted: tuple[Ground, list[int]]) -> None:
    ground, seen = counted
    darker, lighter = (
        ground.figures(2, [rgb // n for rgb in ground.level(2)])["psnr"] for n in (3, 2)
    )
    assert float(str(darker)) < float(str(lighter))
    assert len(seen) == 3


def test_coloured_flecks_show_in_chroma_alone(
    counted: tuple[Ground, list[int]], rng: np.random.Generator
) -> None:
    ground, _ = counted
    for level in range(3):
        true = ground.level(level)
        assert set(ground.colours(level, true).values()) == {1.0}
    [rgb] = ground.level(0)
    fleck = rng.choice([-12, 0, 12], rgb.shape[:2])
    flecked = rgb.clip(12, 243) + np.stack([fleck, -fleck, 0 * fleck], -1)
    found = ground.colours(0, [flecked.astype(np.uint8)])
    assert list(found) == ["chroma_0", "chroma_1", "chroma_2"]
    assert found["chroma_0"] > 1.5
    assert ground.figures(0, [flecked.astype(np.uint8)])["energy_0"] == pytest.approx(1, abs=0.1)


def test_what_a_reader_gets_comes_before_what_is_compared_with_it() -> None:
    jobs = plan(["small"], (1, 2, 4, 8))
    for number, variant in enumerate(jobs):
        before = compared_with(variant)
        assert (before is None) == variant.plain
        assert before is None or before in jobs[:number]


def test_the_best_and_the_worst_are_chosen_by_ranks() -> None:
    rows = [
        {"field": name, "level": level, "own_distance": distance}
        for level, scale in (("0", 1), ("1", 100))
        for name, distance in (("b", str(2 * scale)), ("c", str(3 * scale)), ("a", str(scale)))
    ]
    assert chosen(rows) == {"best": "a", "median": "b", "worst": "c"}


def test_a_sheet_is_laid_out_and_small(rng: np.random.Generator) -> None:
    large = np.full((600, 700, 3), 9, np.uint8)
    small = np.full((100, 100, 3), 9, np.uint8)
    made = sheet([[large, small], [small, large]])
    assert made.shape == (2 * SIDE + 8, 2 * SIDE + 8, 3)
    assert (made[:SIDE, :SIDE] == 9).all()
    assert (made[:SIDE, SIDE + 8 :] == 9).sum() == 3 * 100**2
    noise = rng.integers(0, 256, (300, 300, 3), np.uint8)
    assert len(small_jpeg(noise, 60_000)) <= 60_000 < len(small_jpeg(noise, 10**6))


def test_sheets_are_written_of_named_fields(mosaic: Mosaic, work: Path, tmp_path: Path) -> None:
    [path] = write_sheets(mosaic, "small", {"best": "a"}, tmp_path / "d", work)
    assert path.name == "d_best.jpg"
    assert 10_000 < path.stat().st_size <= 250_000


def made_up(change: str, level: int, steps: int, value: float, **more: object) -> Row:
    octaves = {f"{kind}_{i}": "1" for kind in ("energy", "kurtosis", "chroma") for i in range(3)}
    named = {"fd_held_out_low": value - 1, "fd_held_out_high": value + 1, "fd_held_out": value}
    row = {
        "label": "small", "weights": "b" * 12, "fields_digest": "f", "judges": "j",
        "preset": "standard", "change": change, "steps": steps, "seed": 0, "level": level,
        "default": int(steps == 1), "generated": int(level < 2), "files": 4, "fields": 5,
        "patches": 60, "bpp_tissue": 0.03,
        "fd_held_out_draws": f"{value} {value + 1}", "psnr": 20.5, "block_colour": 2.5,
        "stain_degrees": 3, "seam": 1.1, "seam_true": 1.0, "machine": "m", "command": "c",
    }  # fmt: skip
    whole = row | named | octaves | dict.fromkeys(decoder_columns(), "nan") | more
    return {k: str(v) for k, v in whole.items()}


def decoder_columns() -> tuple[str, ...]:
    from benchmarks.decoder_jobs import TOLD
    from benchmarks.decoder_seams import KEYS as SEAMS

    return (*SEAMS, *TOLD, "grey_change")


@pytest.fixture
def rows() -> list[Row]:
    """Two levels, two step counts, and the enlarged anchor between their distances."""
    made = [made_up(ENLARGED, level, 1, 50, chroma_0=2.9) for level in range(3)]
    for steps, value in ((1, 60), (4, 40)):
        made += [made_up(SHIPPED, level, steps, value) for level in range(3)]
    return made


@pytest.fixture
def seconds() -> list[Row]:
    return [
        {"subject": f"small {'b' * 12}", "setting": f"{n} steps, one core", "value": f"{n / 10}",
         "low": "0", "high": "1", "metric": "seconds_per_window"}
        for n in (1, 4)
    ]  # fmt: skip


def test_tables_tell_steps_beside_their_time_and_the_anchor(
    rows: list[Row], seconds: list[Row], tmp_path: Path
) -> None:
    text = write_tables(rows, seconds, "b" * 12, tmp_path / "t.md").read_text("utf-8")
    steps = text.partition("## Steps")[2].partition("## Closeness")[0]
    lines = [line.split(" | ") for line in steps.splitlines() if line.startswith("| small")]
    assert [(cell[2], cell[3], cell[4].split()[0], cell[-1][:4]) for cell in lines] == [
        ("0", "1", "0.100", "0.00"),
        ("0", "4", "0.400", "1.00"),
        ("1", "1", "0.100", "0.00"),
        ("1", "4", "0.400", "1.00"),
    ]
    assert "4 files of val, 5 fields, 60 tissue patches" in text
    assert "| 1.00 1.00 1.00 | kept | 2.90 1.00 1.00 |" in text, "chroma beside what it guards not"


def test_the_guard_is_of_all_octaves() -> None:
    assert guarded(made_up(SHIPPED, 0, 1, 1, chroma_0=3))
    assert not guarded(made_up(SHIPPED, 0, 1, 1, energy_2=0.79))
    assert not guarded(made_up(SHIPPED, 0, 1, 1, kurtosis_0=1.41))


def test_quality_is_drawn_against_time(rows: list[Row], seconds: list[Row], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(rows, seconds, tmp_path / "p.png").stat().st_size > 5000


def test_a_plan_holds_every_way_once() -> None:
    jobs = plan(["small"], (1, 2, 4, 8))
    assert len(set(jobs)) == len(jobs)
    steps = {v.steps for v in jobs if (v.preset, v.change, v.seed) == ("standard", SHIPPED, 0)}
    assert steps == {0, 2, 4, 8}, "1 is the bundle's own"
    assert {v.change for v in jobs} == {
        SHIPPED, ENLARGED, ZEROED, RAW, EXCHANGED, PARENT, UNLOCKED
    }  # fmt: skip
    assert jobs[0].plain


def test_rows_that_stand_are_not_made_again(
    mosaic: Mosaic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge([], _values)
    ground = Ground(mosaic, judge)
    monkeypatch.setattr(decoder, "ground_of", lambda _: ground)
    done: list[Variant] = []

    def do(_: Setting, variant: Variant) -> tuple[list[Row], list[Row]]:
        done.append(variant)
        made = [key(ground, variant, level) | {"value": 1.0} for level in range(3)]
        return made, [row | {"field": "a"} for row in made if variant.plain]

    monkeypatch.setattr(decoder, "do", do)
    setting, out = Setting(tmp_path / "x.csv", tmp_path), tmp_path / "d.csv"
    decoder.measure(setting, plan(["small"], (1,)), out, workers=1)
    first = len(done)
    assert first == len(plan(["small"], (1,)))
    decoder.measure(setting, plan(["small"], (1, 2)), out, workers=1)
    assert done[first:] == [Variant("small", "standard", 2)]
    header = out.read_text("utf-8").splitlines()[0]
    assert header.split(",")[: len(KEYS)] == list(KEYS)
    decoder.tables(out, fresh=True)
    assert list(tmp_path.iterdir()) == []


def test_trained_ablations_differ_in_what_they_say_alone() -> None:
    config = load_config(decoder_training.Ablations, CONFIGS / "ablations.json")
    found = dict(decoder_training.trainings(config))
    whole = found.pop(decoder_training.ALL)
    for name, one in found.items():
        flow = dataclasses.replace(
            one.zoomldm, parents=whole.zoomldm.parents, variants=whole.zoomldm.variants
        )
        assert dataclasses.replace(one, folder=whole.folder, zoomldm=flow) == whole
        parents = one.zoomldm.parents != whole.zoomldm.parents
        assert parents == (name == decoder_training.NO_PARENT)
        assert (one.zoomldm.variants == whole.zoomldm.variants) == parents
    bent = found[decoder_training.NO_STAIN].zoomldm.variants.augment
    assert (bent.stain_gain, bent.stain_bias, bent.channel_gain) == (0, 0, 0)


def test_the_table_of_magnifications_has_a_configuration_to_start_from() -> None:
    from benchmarks.magnifications import Comparison

    found = load_config(Comparison, CONFIGS / "magnifications.json")
    assert not Path(found.folder).is_absolute()
