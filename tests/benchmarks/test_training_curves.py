"""Every shipped part has its curve, and a run in parts is one curve."""

from pathlib import Path

import pytest

pytest.importorskip("benchmarks.training_curves", exc_type=ImportError)

from benchmarks.training_curves import HERE, PANELS, Panel, curve
from wsicodec.models.bundle import Bundle

ROOT = Path(__file__).parents[2]


def test_a_run_in_parts_is_one_curve(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("seen,loss,more\n10,4,\n20,3,1\n5,2,\n15,1,7\n", "utf-8")
    assert curve(path, "loss") == ([10, 20, 25, 35], [4.0, 3.0, 2.0, 1.0])
    assert curve(path, "more") == ([20, 35], [1.0, 7.0])


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p.part)
def test_every_part_has_a_curve_that_falls(panel: Panel) -> None:
    seen, values = curve(HERE / f"{panel.part}.csv", panel.columns[0])
    assert len(values) >= 10
    assert seen == sorted(seen)
    assert min(values) < values[0]


def test_every_part_of_the_bundle_is_recorded() -> None:
    record = Bundle(ROOT / "wsicodec" / "bundles" / "small").config["record"]
    for part in ("autoencoder", "embedder", "zoomldm", "edm"):
        assert record[part]["patches"] > 0
        assert record[part]["seconds"] > 0
        assert record[part]["config"]
    assert record["machine"]
    assert record["commit"]
