"""Which rungs ours stands on, from rows whose answers are known."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wsicodec.bench.curves import points
from wsicodec.bench.fields import cut
from wsicodec.bench.rungs import climb, least_within, told
from wsicodec.bench.rungs_table import rungs
from wsicodec.bench.table import Row
from wsicodec.metrics.degrade import KINDS
from wsicodec.metrics.pictures import octave_ratios

MakeRow = Callable[..., Row]
SCRAMBLED = next(kind for kind in KINDS if kind.name == "scrambled")
TISSUE = {f"{kind}_{i}": 1.0 for kind in ("energy", "kurtosis") for i in range(3)}


def _ours(make_row: MakeRow, value: float, **more: object) -> list[Row]:
    """Ours at 0.02 bits per pixel, and the anchor that it starts from, at two levels."""
    rows = []
    for level in (0, 1):
        own = TISSUE | {"level": level} | more
        rows += [
            make_row("wsicodec", "standard", 0.02, value, **own),
            make_row("anchor", "standard", 0.015, 200, level=level),
        ]
    return rows


def _rival(make_row: MakeRow, codec: str, factor: str, *pairs: tuple[float, float]) -> list[Row]:
    return [
        make_row(codec, f"{i}{factor}", rate, value, level=level)
        for level in (0, 1)
        for i, (rate, value) in enumerate(pairs)
    ]


def test_the_least_distance_lies_on_straight_lines_between_settings(make_row: MakeRow) -> None:
    """Distance 1 / rate is a straight line of logarithms; draws move with the values."""
    line = points(_rival(make_row, "jpeg", "", (0.01, 100), (0.04, 25)), "held_out", 0)
    found = least_within(line, 0.02)
    assert found[0] == pytest.approx(50)
    assert found[1:] == pytest.approx([50 * (1 + d / 100) for d in range(-5, 6)])
    assert least_within(line, 0.04)[0] == least_within(line, 1.0)[0] == pytest.approx(25)
    assert math.isnan(least_within(line, 0.009)[0])


def test_a_worse_setting_that_costs_more_helps_nobody(make_row: MakeRow) -> None:
    line = points(_rival(make_row, "webp", "", (0.01, 40), (0.03, 90)), "held_out", 0)
    assert least_within(line, 0.02)[0] == least_within(line, 0.03)[0] == pytest.approx(40)


def test_rungs_are_told_apart_by_the_rivals_bytes(make_row: MakeRow) -> None:
    """Below the anchor and the rival at our bytes; the rival at four times them is better."""
    rows = _ours(make_row, 50) + _rival(make_row, "jpeg", " /4", (0.01, 120), (0.08, 15))
    ladder = climb(rows, "held_out")
    assert ladder is not None
    assert [ladder.stands_on(n) for n in (1, 2, 3)] == [True, True, False]
    at_level_0 = [r for r in ladder.rungs if r.level == 0]
    assert [r.other for r in at_level_0] == ["anchor", "jpeg /4", "jpeg /4"]
    assert [r.theirs for r in at_level_0] == pytest.approx([200, 60, 15])
    assert all(r.sure for r in at_level_0)


def test_a_rival_that_cannot_be_so_cheap_is_no_match(make_row: MakeRow) -> None:
    rows = _ours(make_row, 60) + _rival(make_row, "avif", "", (0.07, 30), (0.2, 10))
    ladder = climb(rows, "held_out")
    assert ladder is not None
    assert ladder.stands_on(2)
    assert not ladder.stands_on(3)
    assert all(math.isnan(r.theirs) and r.sure for r in ladder.rungs if r.number == 2)


@pytest.mark.parametrize(
    ("name", "value"), [("energy_2", 1.3), ("energy_0", 0.7), ("kurtosis_1", 0.6)]
)
def test_noise_stands_on_no_rung(make_row: MakeRow, name: str, value: float) -> None:
    rows = _ours(make_row, 60, **{name: value}) + _rival(make_row, "jpeg", "", (0.01, 300))
    ladder = climb(rows, "held_out")
    assert ladder is not None
    assert all(rung.holds for rung in ladder.rungs)
    assert not any(ladder.stands_on(n) for n in (1, 2, 3))
    assert f"{name} {value:.2f}, NOT as tissue" in told(ladder)


@pytest.mark.parametrize("strength", SCRAMBLED.strengths)
def test_scrambled_detail_stands_on_no_rung(
    make_row: MakeRow, drawn_slide: Path, strength: float
) -> None:
    """What the held-out judge forgives: detail with its spectrum, but without structure."""
    (field,) = cut(drawn_slide, None, 1)
    rgb = field.rgb[:512, :512]
    ratios = octave_ratios(rgb, SCRAMBLED.apply(rgb, strength, np.random.default_rng(0)))
    ladder = climb(_ours(make_row, 1, **ratios), "held_out")
    assert ladder is not None
    assert all(rung.holds for rung in ladder.rungs)
    assert not ladder.stands_on(1)


def test_a_level_that_is_stored_is_on_no_rung(make_row: MakeRow) -> None:
    rows = [r for r in _ours(make_row, 60) if r["level"] == "0"]
    rows += [
        *(make_row("wsicodec", "standard", 0.02, 7.1, level=1, seed=s, **TISSUE) for s in range(3)),
        make_row("anchor", "standard", 0.015, 7.1, level=1),
    ]
    ladder = climb([*rows, *_rival(make_row, "jpeg", "", (0.01, 300))], "held_out")
    assert ladder is not None
    assert {rung.level for rung in ladder.rungs} == {0}


def test_what_is_lost_is_named(make_row: MakeRow) -> None:
    rows = _ours(make_row, 250) + _rival(make_row, "jpeg", "", (0.01, 300), (0.08, 280))
    ladder = climb(rows, "held_out")
    assert ladder is not None
    lines = told(ladder).splitlines()
    assert "rung 1, level 0: below 0 of 1; not anchor (250.0 : 200.0)" in lines
    assert "rung 2, level 1: below 1 of 1" in lines
    assert lines[-3:] == ["rung 1 does not stand", "rung 2 stands", "rung 3 stands"]


def test_without_ours_there_is_no_ladder(make_row: MakeRow) -> None:
    assert climb(_rival(make_row, "jpeg", "", (0.01, 300)), "held_out") is None


def test_the_page_has_a_cell_for_every_downsample(make_row: MakeRow) -> None:
    """JPEG behind /4 has 60 at our bytes and 15 at four times them; AVIF cannot be so cheap."""
    rows = _ours(make_row, 50)
    rows += _rival(make_row, "jpeg", " /4", (0.01, 120), (0.08, 15))
    rows += _rival(make_row, "avif", "", (0.2, 5))
    text = rungs(rows, "held_out")
    assert text.count("<th>/4</th>") == text.count("<th>alone</th>") == 4
    assert text.count("60.0 ✓") == text.count("15.0 ✗") == 2
    assert text.count("– ✓") == 4
    assert text.count("stands</strong>") == 2
    assert "does not stand</strong>, above 2 of 4" in text
    assert rungs(rows[-1:], "held_out").startswith("<p>Not told"), "rivals alone"
