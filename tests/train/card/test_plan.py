"""Plans, clocks and archives."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.train import card  # noqa: E402
from wsicodec.train.card import archive  # noqa: E402
from wsicodec.train.card.deck import KINDS  # noqa: E402
from wsicodec.train.card.plan import Clock, Plan, StagePlan, overlaid  # noqa: E402
from wsicodec.train.config import build, load_config, to_record  # noqa: E402

pytestmark = pytest.mark.torch


def test_shares_need_not_sum_to_one() -> None:
    plan = Plan((StagePlan("autoencoder", 1), StagePlan("zoomldm", 3)))
    assert [plan.bounds(k) for k in range(2)] == [(0, 0.25), (0.25, 1)]


def test_a_clock_ends_when_the_time_does() -> None:
    clock = Clock(100, 140, 0.25, 0.75)
    assert [clock.progress(t) for t in (90, 100, 120, 140, 150)] == [0.25, 0.25, 0.5, 0.75, 0.75]


@pytest.mark.parametrize(
    "record",
    [
        {"stages": []},
        {"stages": [{"stage": "codec", "share": 1}]},
        {"stages": [{"stage": "zoomldm", "share": 0}]},
        {"stages": [{"stage": "zoomldm", "share": 1}], "precision": "fp8"},
    ],
)
def test_impossible_plans_are_refused(record: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        build(Plan, record)


def test_the_shipped_plan_fits_the_stages() -> None:
    plan = load_config(Plan, Path(card.__file__).parent / "plan.json")
    for planned in plan.stages:
        kind = KINDS[planned.stage]
        build(kind, overlaid(to_record(kind()), planned.settings))


def test_settings_are_laid_over_without_touching_what_lies_below() -> None:
    below = {"a": {"b": 1, "c": 2}, "d": 3}
    assert overlaid(below, {"a": {"b": 5}, "e": 6}) == {"a": {"b": 5, "c": 2}, "d": 3, "e": 6}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}


def test_arrays_come_back_from_parts(tmp_path: Path) -> None:
    arrays = {str(k): np.full(1000, k, np.float32) for k in range(5)}
    paths = archive.save_parts(tmp_path, "weights", arrays, part=9000)
    assert len(paths) == 3
    found = archive.load_parts(tmp_path, "weights")
    assert all(np.array_equal(found[k], arrays[k]) for k in arrays)
    with pytest.raises(ConfigError, match="at most 900 bytes"):
        archive.save_parts(tmp_path, "weights", arrays, part=900)


def test_a_missing_part_is_noticed(tmp_path: Path) -> None:
    arrays = {str(k): np.zeros(1000, np.float32) for k in range(4)}
    archive.save_parts(tmp_path, "weights", arrays, part=9000)[1].unlink()
    with pytest.raises(ConfigError, match=r"weights1\.npz"):
        archive.load_parts(tmp_path, "weights")


def test_nothing_pickled_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.array([{}], object))
    with pytest.raises(ConfigError, match="expected arrays"):
        archive.load(tmp_path / "bad.npz")


def test_small_tensors_keep_their_precision() -> None:
    tensors = {"scale": torch.full((8,), 1 / 3), "kernel": torch.full((80, 80), 1 / 3)}
    arrays = archive.to_arrays(tensors, half=True)
    assert [arrays[k].dtype.name for k in ("scale", "kernel")] == ["float32", "float16"]
    assert all(t.dtype == torch.float32 for t in archive.to_tensors(arrays).values())
