"""Where ours stands: below the picture it starts from, each rival at its bytes, and at four times.

    rung 1    nearer the truth than the anchor enlarged, at every level that is drawn
    rung 2    than each rival, alone and behind a downsample, at no more than our bytes
    rung 3    than the same at no more than four times our bytes

Noise can lie near the truth in features, so no rung holds at a level where the finest octaves have
another energy, or another kurtosis, than tissue has.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.bench.curves import LEAST, Point, points
from wsicodec.bench.options import OURS
from wsicodec.bench.table import Row, number
from wsicodec.metrics.bootstrap import interval
from wsicodec.metrics.pictures import OCTAVES

TIMES = {2: 1, 3: 4}  # a rung's limit on a rival's bytes, over ours
ENERGY = (0.8, 1.2)  # drawn over true
KURTOSIS = (0.7, 1.4)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rung:
    """Ours against one other at one level; NaN where the other cannot be had so cheaply."""

    number: int
    level: int
    other: str
    ours: float  # squared Fréchet distance
    theirs: float
    low: float  # 95 % interval, over files, of theirs over ours
    high: float

    @property
    def holds(self) -> bool:
        """Whether ours is nearer the truth; what cannot be so cheap is no match."""
        return not self.theirs <= self.ours

    @property
    def sure(self) -> bool:
        """Whether the interval agrees."""
        return math.isnan(self.theirs) or self.low > 1 or self.high < 1


@dataclass(frozen=True)
class Guard:
    """A figure of our octaves over the truth's, and whether it is that of tissue."""

    level: int
    name: str  # energy_0 and so on, finest first
    value: float

    @property
    def holds(self) -> bool:
        """Whether it lies in its range."""
        low, high = ENERGY if self.name.startswith("energy") else KURTOSIS
        return low <= self.value <= high


@dataclass(frozen=True)
class Ladder:
    """All rungs and guards of a setting."""

    setting: str
    rungs: tuple[Rung, ...]
    guards: tuple[Guard, ...]

    def guarded(self, level: int) -> bool:
        """Whether all guards of a level hold."""
        return all(guard.holds for guard in self.guards if guard.level == level)

    def stands_on(self, number: int) -> bool:
        """Whether a rung holds against everyone at every level, guards included."""
        own = [rung for rung in self.rungs if rung.number == number]
        return bool(own) and all(rung.holds and self.guarded(rung.level) for rung in own)


def climb(rows: Sequence[Row], judge: str, setting: str = "standard") -> Ladder | None:
    """Rungs and guards of our `setting` by a judge's distance; None where it was not measured.

    A rival has its least distance at any rate up to the limit, on straight lines between its
    settings (in logarithms); each downsample is a line of its own. The anchor is taken as stored.
    """
    rungs: list[Rung] = []
    guards: list[Guard] = []
    for level in sorted({int(row["level"]) for row in rows}):
        found = points(rows, judge, level)
        ours = next((p for p in found if (p.codec, p.setting) == ("wsicodec", setting)), None)
        anchor = next((p for p in found if (p.codec, p.setting) == ("anchor", setting)), None)
        if ours is None or (anchor is not None and math.isclose(anchor.value, ours.value)):
            continue  # a level that is stored, not drawn
        if anchor is not None:
            rungs.append(_rung(1, level, "anchor", ours, [anchor], math.inf))
        lines = list(_lines(found))
        for step, times in TIMES.items():
            rungs += [_rung(step, level, name, ours, line, times) for name, line in lines]
        guards += list(_guards(rows, setting, level))
    return Ladder(setting, tuple(rungs), tuple(guards)) if guards else None


def _lines(found: Iterable[Point]) -> Iterator[tuple[str, list[Point]]]:
    """Each rival alone and behind each downsample, cheapest first."""
    lines: dict[str, list[Point]] = {}
    for point in found:
        if point.codec not in OURS and point.rate > 0:
            factor = point.setting.partition(" ")[2]
            lines.setdefault(f"{point.codec} {factor or 'alone'}", []).append(point)
    yield from sorted(lines.items())


def _rung(
    step: int, level: int, name: str, ours: Point, line: Sequence[Point], times: float
) -> Rung:
    values = least_within(line, times * ours.rate)
    own = np.concatenate([[ours.value], ours.draws])
    count = min(len(own), len(values))
    gaps = values[1:count] / np.maximum(own[1:count], LEAST)
    whole = interval(float(values[0] / max(ours.value, LEAST)), gaps)
    return Rung(step, level, name, ours.value, float(values[0]), whole.low, whole.high)


def least_within(line: Sequence[Point], rate: float) -> Floats:
    """The least distance at any rate up to `rate`, then that of every draw; NaN where none is.

    line: a codec's points, cheapest first.
    """
    count = min(len(point.draws) for point in line)
    values = np.array([[point.value, *point.draws[:count]] for point in line])
    able = [i for i, point in enumerate(line) if point.rate <= rate]
    if not able:
        return np.full(values.shape[1], np.nan)
    reached = values[able]
    last = able[-1]
    if last + 1 < len(line):
        a, b = line[last].rate, line[last + 1].rate
        share = math.log(rate / a) / math.log(b / a)
        logs = np.log(np.maximum(values[[last, last + 1]], LEAST))
        reached = np.vstack([reached, np.exp((1 - share) * logs[0] + share * logs[1])])
    return np.asarray(reached.min(0))


def _guards(rows: Sequence[Row], setting: str, level: int) -> Iterator[Guard]:
    own = [
        row
        for row in rows
        if (row["codec"], row["setting"], row["level"]) == ("wsicodec", setting, str(level))
    ]
    for kind in ("energy", "kurtosis"):
        for octave in range(OCTAVES):
            name = f"{kind}_{octave}"
            yield Guard(level, name, float(np.mean([number(row, name) for row in own])))


def told(ladder: Ladder) -> str:
    """The ladder in lines for a terminal: what holds is counted, what does not is named."""
    lines = [f"{ladder.setting}, squared Fréchet distance, ours : theirs"]
    for step in (1, *TIMES):
        for level in sorted({rung.level for rung in ladder.rungs}):
            own = [r for r in ladder.rungs if (r.number, r.level) == (step, level)]
            lost = [f"{r.other} ({r.ours:.1f} : {r.theirs:.1f})" for r in own if not r.holds]
            more = f"; not {', '.join(lost)}" if lost else ""
            lines.append(
                f"rung {step}, level {level}: below {len(own) - len(lost)} of {len(own)}{more}"
            )
    for guard in ladder.guards:
        verdict = "as tissue" if guard.holds else "NOT as tissue"
        lines.append(f"guard, level {guard.level}: {guard.name} {guard.value:.2f}, {verdict}")
    lines += [
        f"rung {n} {'stands' if ladder.stands_on(n) else 'does not stand'}" for n in (1, *TIMES)
    ]
    return "\n".join(lines)
