"""Frontiers, seeds, and Bjøntegaard's difference against closed forms."""

import math
from collections.abc import Callable

import pytest

from wsicodec.bench.curves import at_rate, bd_rate, frontier, judges, points
from wsicodec.bench.table import Row

MakeRow = Callable[..., Row]
RATES = (0.01, 0.02, 0.04, 0.08, 0.16)


def _line(make_row: MakeRow, codec: str, factor: float) -> list[Row]:
    """Distance 1 / rate, at rates `factor` times as high."""
    return [make_row(codec, str(i), factor * r, 1 / r) for i, r in enumerate(RATES)]


def test_seeds_of_a_setting_are_one_point(make_row: MakeRow) -> None:
    rows = [make_row("wsicodec", "standard", 0.03, v, seed=s) for s, v in enumerate((90, 110))]
    (point,) = points([*rows, make_row("wsicodec", "standard", 0.03, 50, level=1)], "held_out", 0)
    assert (point.value, point.rate, point.seeds) == (100, 0.03, (90, 110))
    assert point.low < 100 < point.high
    assert judges(rows) == ["held_out"]


def test_the_frontier_leaves_out_what_is_beaten(make_row: MakeRow) -> None:
    pairs = [(1, 5), (2, 6), (3, 2), (0.5, 9), (4, 2.5), (math.nan, 1)]
    found = points([make_row("jpeg", str(p), *p) for p in pairs], "held_out", 0)
    assert [(p.rate, p.value) for p in frontier(found)] == [(0.5, 9), (1, 5), (3, 2)]


def test_half_the_rate_at_every_distance_is_minus_fifty_percent(make_row: MakeRow) -> None:
    pytest.importorskip("scipy")
    rows = [*_line(make_row, "wsicodec", 0.5), *_line(make_row, "avif", 1.0)]
    found = points(rows, "held_out", 0)
    ours, theirs = ([p for p in found if p.codec == c] for c in ("wsicodec", "avif"))
    gap = bd_rate(ours, theirs)
    assert gap is not None
    assert gap.percent == pytest.approx(-50, abs=1e-9)
    assert gap.low == pytest.approx(-50, abs=1e-9), "both move alike in every draw"
    assert gap.share == pytest.approx(1)
    assert gap.counts == (5, 5)
    back = bd_rate(theirs, ours)
    assert back is not None
    assert back.percent == pytest.approx(100, abs=1e-9)


def test_the_range_that_both_reach_is_shown(make_row: MakeRow) -> None:
    pytest.importorskip("scipy")
    found = points([*_line(make_row, "a", 1.0)[:4], *_line(make_row, "b", 1.0)[2:]], "held_out", 0)
    gap = bd_rate(*([p for p in found if p.codec == c] for c in "ab"))
    assert gap is not None
    assert (gap.best, gap.worst) == pytest.approx((1 / 0.08, 1 / 0.04))
    assert gap.share == pytest.approx(1 / 4)


def test_curves_that_never_meet_have_no_difference(make_row: MakeRow) -> None:
    good = [make_row("a", str(r), r, 0.1 / r) for r in RATES[-2:]]
    found = points([*good, *_line(make_row, "b", 1.0)[:2]], "held_out", 0)
    assert bd_rate(*([p for p in found if p.codec == c] for c in "ab")) is None
    assert bd_rate(found[:1], found) is None


def test_the_best_that_can_be_paid(make_row: MakeRow) -> None:
    found = points(_line(make_row, "avif", 1.0), "held_out", 0)
    best = at_rate(found, 0.038)
    assert best is not None
    assert best.rate == 0.04
    assert at_rate(found, 0.001) is None
