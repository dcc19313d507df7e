"""The rungs as tables of the report: rivals down, downsamples across, a cell a verdict."""

import html
import math
from collections.abc import Sequence

from wsicodec.bench.rungs import ENERGY, KURTOSIS, TIMES, Guard, Ladder, Rung, climb
from wsicodec.bench.table import Row

NOTE = (
    '<p class="note">A cell is the least squared Fréchet distance of the rival at any rate up to '
    "the limit, between its settings on straight lines of logarithms, and a tick where ours is "
    "below it; a dash where it cannot be had so cheaply. Pale cells: the interval of the ratio "
    "over files does not agree. No rung stands at a level whose guards fail: energies of the three "
    f"finest octaves within {ENERGY[0]:g} to {ENERGY[1]:g} of the truth's, their kurtosis within "
    f"{KURTOSIS[0]:g} to {KURTOSIS[1]:g}.</p>"
)


def rungs(rows: Sequence[Row], judge: str) -> str:
    """What ours at `standard` is below by a judge, its guards, and which rungs stand."""
    ladder = climb(rows, judge)
    if ladder is None:
        return "<p>Not told: standard was not measured.</p>"
    levels = sorted({guard.level for guard in ladder.guards})
    parts = [f"<h3>{html.escape(judge)}</h3>{_verdicts(ladder)}"]
    for level in levels:
        both = "".join(_matrix(ladder, step, level) for step in TIMES)
        parts.append(f'<div class="pair">{both}</div>')
        parts.append(_guards([g for g in ladder.guards if g.level == level]))
    return "".join(parts) + NOTE


def _verdicts(ladder: Ladder) -> str:
    anchors = ", ".join(
        f"{_cell(r)} at level {r.level}, ours {r.ours:.1f}" for r in ladder.rungs if r.number == 1
    )
    first = f"below the enlarged anchor at every drawn level ({anchors or 'not measured'})"
    told = {1: first, 2: "below every rival at its bytes", 3: "and at four times them"}
    items = "".join(f"<li>Rung {n}, {what}: {_verdict(ladder, n)}</li>" for n, what in told.items())
    return f"<ul>{items}</ul>"


def _verdict(ladder: Ladder, step: int) -> str:
    if ladder.stands_on(step):
        return '<strong class="yes">stands</strong>'
    own = [r for r in ladder.rungs if r.number == step]
    lost = sum(not r.holds for r in own)
    noisy = sorted({r.level for r in own if not ladder.guarded(r.level)})
    why = [f"above {lost} of {len(own)}"] if lost else []
    why += [f"the guards of level {level} fail" for level in noisy]
    told = "; ".join(why) or "nothing to compare with was measured"
    return f'<strong class="no">does not stand</strong>, {told}'


def _matrix(ladder: Ladder, step: int, level: int) -> str:
    own = [r for r in ladder.rungs if (r.number, r.level) == (step, level)]
    if not own:
        return ""
    codecs = sorted({r.other.split()[0] for r in own})
    factors = sorted({r.other.split()[1] for r in own}, key=_order)
    by_name = {r.other: r for r in own}
    limit = "our bytes" if TIMES[step] == 1 else f"{TIMES[step]} times our bytes"
    title = f"Level {level}, at no more than {limit}; ours {own[0].ours:.1f}"
    head = "".join(f"<th>{html.escape(f)}</th>" for f in ("", *factors))
    body = "".join(
        f"<tr><td>{html.escape(codec)}</td>"
        + "".join(_td(by_name.get(f"{codec} {factor}")) for factor in factors)
        + "</tr>"
        for codec in codecs
    )
    return f'<table class="rungs"><caption>{title}</caption><tr>{head}</tr>{body}</table>'


def _order(factor: str) -> int:
    return 1 if factor == "alone" else int(factor[1:])


def _td(rung: Rung | None) -> str:
    if rung is None:
        return "<td></td>"
    kind = ("yes" if rung.holds else "no") + ("" if rung.sure else " pale")
    ratio = "" if math.isnan(rung.theirs) else f"theirs over ours {rung.low:.2f} to {rung.high:.2f}"
    return f'<td class="{kind}" title="{ratio}">{_cell(rung)}</td>'


def _cell(rung: Rung) -> str:
    if math.isnan(rung.theirs):
        return "– ✓"
    return f"{rung.theirs:.1f} {'✓' if rung.holds else '✗'}"


def _guards(guards: Sequence[Guard]) -> str:
    told = ", ".join(
        f'<span class="{"yes" if g.holds else "no"}">{g.name.replace("_", " ")} {g.value:.2f} '
        f"{'✓' if g.holds else '✗'}</span>"
        for g in guards
    )
    return f'<p class="note">Guards of level {guards[0].level}: {told}</p>'
