import pytest

throughput = pytest.importorskip("benchmarks.throughput", exc_type=ImportError)


def test_growth_is_the_exponent_of_the_pixels() -> None:
    sizes = [4096, 8192, 16384]
    assert throughput.growth(sizes, [s**2 / 1e6 for s in sizes]) == pytest.approx(1)
    assert throughput.growth(sizes, [500.0] * 3) == pytest.approx(0, abs=1e-12)


def test_a_process_of_its_own_prints_its_figures() -> None:
    code = "import json, sys; print('chatter'); print(json.dumps({'peak': float(sys.argv[1])}))"
    assert throughput.child(code, 3) == {"peak": 3}
