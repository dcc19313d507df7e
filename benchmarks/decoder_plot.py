"""Quality against seconds a tile, level by level, as one picture."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.decoder_variants import ENLARGED, SHIPPED
from wsicodec.bench.rungs import ENERGY, KURTOSIS
from wsicodec.bench.table import Row, number

PRESET = "standard"
PANELS = {
    "fd_held_out": "Fréchet distance, held-out features",
    "psnr": "PSNR, dB",
    "energy_0": "energy of the finest octave over the original's",
    "kurtosis_0": "its kurtosis over the original's",
}
GUARDS = {"energy_0": ENERGY, "kurtosis_0": KURTOSIS}
COLOURS = ("#1565c0", "#c2185b", "#2e7d32", "#f9a825")


def plot(rows: Sequence[Row], seconds: Sequence[Row], picture: Path) -> Path:
    """A row of panels per generated level of preset standard, a line per bundle through its steps.

    The dashed line is the enlarged anchor; grey is where the guard of octaves is kept.
    """
    own = [r for r in rows if (r["preset"], r["seed"], r["generated"]) == (PRESET, "0", "1")]
    with panels(own, lambda axis, here, column: _panel(axis, here, seconds, column)) as figure:
        figure.axes[0].legend(fontsize=7, frameon=False)
        figure.savefig(picture, dpi=110)
    return picture


@contextmanager
def panels(
    rows: Sequence[Row], draw: Callable[[Any, Sequence[Row], str], None], below: float = 0.0
) -> Iterator[Any]:
    """A figure with a row of panels per level, one a figure of PANELS; closed on leaving.

    draw: an axis, the rows of its level, and the column that it shows.
    below: inches under the panels.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    levels = sorted({int(r["level"]) for r in rows})
    size = (3.6 * len(PANELS), 3.2 * len(levels) + below)
    figure, axes = plt.subplots(
        len(levels), len(PANELS), figsize=size, squeeze=False, layout="constrained"
    )
    for level, line in zip(levels, axes, strict=True):
        here = [r for r in rows if int(r["level"]) == level]
        for axis, (column, title) in zip(line, PANELS.items(), strict=True):
            if column in GUARDS:
                axis.axhspan(*GUARDS[column], color="0.92")
            draw(axis, here, column)
            axis.set_title(f"level {level} ({20 / 2**level:g}x): {title}", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.grid(visible=True, alpha=0.2)
    for axis in axes[-1]:
        axis.set_xlabel("seconds a tile, one core", fontsize=8)
    yield figure
    plt.close(figure)


def points(rows: Sequence[Row], seconds: Sequence[Row], subject: str) -> list[tuple[float, Row]]:
    """Seconds a tile and the row of every step count of a bundle, in order of steps."""
    times = {
        (r["subject"], r["setting"]): number(r, "value")
        for r in seconds
        if r["metric"] == "seconds_per_window"
    }
    own = [r for r in rows if r["change"] == SHIPPED and f"{r['label']} {r['weights']}" == subject]
    return [
        (times.get((subject, f"{r['steps']} steps, one core"), math.nan), r)
        for r in sorted(own, key=lambda r: int(r["steps"]))
    ]


def _panel(axis: Any, rows: Sequence[Row], seconds: Sequence[Row], column: str) -> None:
    for row in rows:
        if row["change"] == ENLARGED:
            axis.axhline(number(row, column), color="black", linestyle="--", linewidth=1)
    subjects = dict.fromkeys(f"{r['label']} {r['weights']}" for r in rows)
    for subject, colour in zip(subjects, COLOURS, strict=False):
        found = points(rows, seconds, subject)
        at, values = [t for t, _ in found], [number(r, column) for _, r in found]
        axis.plot(at, values, "o-", color=colour, linewidth=1, markersize=4, label=subject[:24])
        for (time, row), value in zip(found, values, strict=True):
            axis.annotate(row["steps"], (time, value), (3, 3), textcoords="offset points", size=7)
            if column == "fd_held_out":
                bounds = number(row, f"{column}_low"), number(row, f"{column}_high")
                axis.vlines(time, *bounds, color=colour, linewidth=0.8, alpha=0.6)
