"""From rows to curves: seeds averaged, frontiers, and the mean difference in rate between two."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.bench.table import Row, number
from wsicodec.metrics.bootstrap import interval

LEAST = 1e-6  # of a distance, for its logarithm
GRID = 200  # places of the overlapping range that the difference is averaged over


@dataclass(frozen=True)
class Point:
    """A codec's setting at a level, all seeds together."""

    codec: str
    setting: str
    rate: float  # bits per pixel of tissue
    value: float
    draws: NDArray[np.float64]  # of the bootstrap, paired with every other point's
    seeds: tuple[float, ...]  # the value of each

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval over files."""
        return interval(self.value, self.draws).low

    @property
    def high(self) -> float:
        """Upper end."""
        return interval(self.value, self.draws).high


def judges(rows: Sequence[Row]) -> list[str]:
    """Names of the judges whose distances the rows hold."""
    names = list(rows[0]) if rows else []
    return [n[3:-6] for n in names if n.startswith("fd_") and n.endswith("_draws")]


def points(rows: Iterable[Row], judge: str, level: int) -> list[Point]:
    """Rate against the judge's Fréchet distance, cheapest first; what has no rate comes last."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if int(row["level"]) == level:
            groups[row["codec"], row["setting"]].append(row)
    made = [_point(*name, same, judge) for name, same in groups.items()]
    return sorted(made, key=lambda p: math.inf if math.isnan(p.rate) else p.rate)


def _point(codec: str, setting: str, rows: Sequence[Row], judge: str) -> Point:
    values = [number(row, f"fd_{judge}") for row in rows]
    draws = np.array([[float(v) for v in row[f"fd_{judge}_draws"].split()] for row in rows])
    rate = float(np.mean([number(row, "bpp_tissue") for row in rows]))
    return Point(codec, setting, rate, float(np.mean(values)), draws.mean(0), tuple(values))


def frontier(found: Iterable[Point]) -> list[Point]:
    """Points that no cheaper one beats, cheapest first; points without a rate are left out."""
    best: list[Point] = []
    for point in sorted((p for p in found if p.rate > 0), key=lambda p: (p.rate, p.value)):
        if not best or point.value < best[-1].value:
            best.append(point)
    return best


@dataclass(frozen=True)
class Difference:
    """Mean difference in rate at equal distance, in percent: below zero, ours is cheaper."""

    percent: float
    low: float  # 95 % over files
    high: float
    best: float  # the range of distances where both have a rate
    worst: float
    share: float  # that range, in logarithms, of what either covers
    counts: tuple[int, int]  # points of our frontier and of theirs


def bd_rate(ours: Sequence[Point], theirs: Sequence[Point]) -> Difference | None:
    """Bjøntegaard's difference (VCEG-M33, 2001) of two frontiers; None where none overlap.

    Log rate over log distance by monotone cubics (Fritsch & Carlson 1980), averaged over the
    distances that both reach. The interval resamples files, alike for both codecs.
    """
    a, b = frontier(ours), frontier(theirs)
    if min(len(a), len(b)) < 2:
        return None
    ranges = [(line[-1].value, line[0].value) for line in (a, b)]
    best, worst = max(r[0] for r in ranges), min(r[1] for r in ranges)
    if best >= worst:
        return None
    values = np.array([p.value for p in a]), np.array([p.value for p in b])
    middle = _mean_gap(a, b, *values)
    drawn = [
        _mean_gap(a, b, np.array([p.draws[i] for p in a]), np.array([p.draws[i] for p in b]))
        for i in range(min(len(p.draws) for p in (*a, *b)))
    ]
    known = np.array([v for v in drawn if not math.isnan(v)])
    whole = interval(middle, known) if len(known) else interval(middle, np.array([middle]))
    reach = math.log(max(r[1] for r in ranges) / max(min(r[0] for r in ranges), LEAST))
    percent, low, high = (_percent(v) for v in (middle, whole.low, whole.high))
    share = math.log(worst / max(best, LEAST)) / reach
    return Difference(percent, low, high, best, worst, share, (len(a), len(b)))


def _percent(gap: float) -> float:
    return 100 * (math.exp(gap) - 1)


def _mean_gap(
    a: Sequence[Point], b: Sequence[Point], x: NDArray[np.float64], y: NDArray[np.float64]
) -> float:
    """Mean of log rate of `a` less that of `b` where their distances overlap; NaN if nowhere."""
    from scipy.interpolate import PchipInterpolator

    lines = []
    for line, values in ((a, x), (b, y)):
        logs = np.log(np.maximum(values, LEAST))
        order = np.argsort(logs, kind="stable")
        kept = np.concatenate([[True], np.diff(logs[order]) > 1e-9])
        rates = np.log([p.rate for p in line])[order][kept]
        if len(rates) < 2:
            return math.nan
        lines.append((logs[order][kept], rates))
    low = max(line[0][0] for line in lines)
    high = min(line[0][-1] for line in lines)
    if low >= high:
        return math.nan
    at = np.linspace(low, high, GRID)
    ours, theirs = (PchipInterpolator(*line)(at) for line in lines)
    return float((ours - theirs).mean())


def at_rate(found: Iterable[Point], rate: float, slack: float = 1.1) -> Point | None:
    """The point of least distance that costs no more than `slack` times `rate`, if there is one."""
    able = [p for p in found if 0 < p.rate <= slack * rate]
    return min(able, key=lambda p: p.value, default=None)
