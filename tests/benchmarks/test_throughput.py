import csv
from pathlib import Path

import pytest

throughput = pytest.importorskip("benchmarks.throughput", exc_type=ImportError)


def test_growth_is_the_exponent_of_the_pixels() -> None:
    sizes = [4096, 8192, 16384]
    assert throughput.growth(sizes, [s**2 / 1e6 for s in sizes]) == pytest.approx(1)
    assert throughput.growth(sizes, [500.0] * 3) == pytest.approx(0, abs=1e-12)


def test_a_process_of_its_own_prints_its_figures() -> None:
    code = "import json, sys; print('chatter'); print(json.dumps({'peak': float(sys.argv[1])}))"
    assert throughput.child(code, 3) == {"peak": 3}


def test_rows_for_every_size_and_the_growth_between(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Figures made up: time in proportion to the pixels, memory the same for all."""

    def child(code: str, *arguments: object) -> dict[str, float]:
        side = Path(str(arguments[0])).stat().st_size if "encode" in code else 0
        made = {"seconds": side**2 / 1e4 or 4.0, "cpu": 2.0, "peak": 400.0, "tiles": 8.0}
        return made | {"patches": side**2 / 100, "bytes": 7.0}

    def draw(path: Path, size: tuple[int, int], seed: int) -> None:
        path.write_bytes(bytes(size[0]))

    monkeypatch.setattr(throughput, "child", child)
    monkeypatch.setattr(throughput, "draw_slide", draw)
    throughput.main(["--sizes", "100", "200", "--rounds", "2", "--out", str(tmp_path)])
    with (tmp_path / "throughput.csv").open(newline="") as lines:
        rows = {(r["subject"], r["metric"]): r for r in csv.DictReader(lines)}
    assert float(rows["drawn 200 x 200", "encode_seconds"]["value"]) == 4
    assert float(rows["drawn 100 to 200", "encode_seconds_growth"]["value"]) == pytest.approx(1)
    assert float(rows["drawn 100 to 200", "encode_peak_growth"]["value"]) == pytest.approx(0)
    assert float(rows["drawn 100 x 100", "decode_cpu_seconds_per_tile"]["value"]) == 0.25
    assert rows["drawn 100 x 100", "decode_tiles_per_s"]["runs"] == "2"
