"""Rate against a distance, one panel a level, as PNG and SVG."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsicodec.bench.curves import Point, frontier, points
from wsicodec.bench.table import Row, number

COLOURS = {
    "wsicodec": "#c2185b",
    "anchor": "#616161",
    "memory": "#00838f",
    "jpeg": "#8d6e63",
    "jpeg2000": "#f9a825",
    "jpegxl": "#2e7d32",
    "avif": "#1565c0",
    "webp": "#6a1b9a",
    "heif": "#ef6c00",
}
MARKS = {"wsicodec": "*", "anchor": "s", "memory": "D"}
MOST = 1.0  # bits per pixel; what costs more lies outside the panel


def plot(rows: Sequence[Row], judge: str, stem: Path) -> list[Path]:
    """Draw rows of one group into `<stem>_<judge>.png` and `.svg`.

    A codec's line is the frontier of its settings, alone and behind every downsample; bars are 95 %
    intervals over files. The dashed line is the autoencoder alone, whose rate is not defined.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "wsicodec"
    levels = sorted({int(row["level"]) for row in rows})
    figure, axes = plt.subplots(1, len(levels), figsize=(6.6 * len(levels), 4.8), squeeze=False)
    for axis, level in zip(axes[0], levels, strict=True):
        _panel(axis, points(rows, judge, level), judge)
        axis.set_title(f"level {level} ({20 / 2**level:g}x)")
    axes[0][-1].legend(fontsize=8)
    return _saved(figure, stem.with_name(f"{stem.name}_{judge}"), dpi=130)


def plot_others(rows: Sequence[Row], judge: str, stem: Path) -> list[Path]:
    """Other measures at level 0 into `<stem>_<judge>_others.png` and `.svg`, without intervals.

    A codec's line goes through the settings that make its frontier by the Fréchet distance.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "wsicodec"
    figure, axes = plt.subplots(2, 4, figsize=(17, 7.6))
    kept = [p for p in points(rows, judge, 0) if p.rate <= MOST]
    codecs = sorted({p.codec for p in kept})
    for axis, (column, title) in zip(axes.flat, others(judge).items(), strict=True):
        for codec in codecs:
            best = frontier(p for p in kept if p.codec == codec)
            values = [mean_of(rows, p, column) for p in best]
            axis.plot(
                [p.rate for p in best], values, MARKS.get(codec, "o"), linestyle="-", linewidth=1,
                color=COLOURS.get(codec, "black"), label=codec, markersize=4,
            )  # fmt: skip
        axis.set_xscale("log")
        _plain(axis.xaxis)
        axis.set_title(title, fontsize=10)
        axis.grid(visible=True, which="both", alpha=0.2)
    axes.flat[0].legend(fontsize=7)
    figure.supxlabel("bits per level-0 pixel of tissue, all bytes; level 0", fontsize=10)
    return _saved(figure, stem.with_name(f"{stem.name}_{judge}_others"), dpi=110)


def _saved(figure: Any, stem: Path, dpi: int) -> list[Path]:
    """A figure as `<stem>.png` and `<stem>.svg`, and closed."""
    from matplotlib import pyplot as plt

    figure.tight_layout()
    made = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    for path in made:
        figure.savefig(path, dpi=dpi)
    plt.close(figure)
    return made


def others(judge: str) -> dict[str, str]:
    """Column and title of what is drawn besides the Fréchet distance."""
    return {
        f"kd_{judge}": "kernel distance",
        f"cmmd_{judge}": "CMMD",
        f"precision_{judge}": "precision",
        f"recall_{judge}": "recall",
        "retrieval": "found again among 32",
        "psnr": "PSNR, dB",
        "energy_0": "energy of the finest octave over the truth's",
        "kurtosis_0": "its kurtosis over the truth's",
    }


def mean_of(rows: Sequence[Row], point: Point, column: str) -> float:
    """The mean over seeds of a figure of a setting at level 0."""
    found = [
        number(row, column)
        for row in rows
        if (row["codec"], row["setting"], row["level"]) == (point.codec, point.setting, "0")
    ]
    return sum(found) / len(found)


def _panel(axis: Any, found: Sequence[Point], judge: str) -> None:
    by_codec: dict[str, list[Point]] = defaultdict(list)
    for point in found:
        if not math.isnan(point.value):
            by_codec[point.codec].append(point)
    for point in by_codec.pop("autoencoder", []):
        axis.axhline(point.value, color="#c2185b", linestyle="--", label="autoencoder alone")
    for codec, of_codec in sorted(by_codec.items()):
        _line(axis, codec, [p for p in of_codec if p.rate <= MOST])
    axis.set_xscale("log")
    axis.set_yscale("log")
    _plain(axis.xaxis)
    _plain(axis.yaxis)
    axis.set_xlabel("bits per level-0 pixel of tissue, all bytes")
    name = judge.removesuffix("_conditions").replace("_", " ")
    marked = ", which conditioned the decoder" if judge.endswith("_conditions") else ""
    axis.set_ylabel(f"Fréchet distance ({name} features{marked})")
    axis.grid(visible=True, which="both", alpha=0.2)


def _plain(scale: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5, in figures that people read."""
    from matplotlib.ticker import LogLocator

    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter("{x:g}")
    scale.set_minor_formatter("")


def _line(axis: Any, codec: str, of_codec: Sequence[Point]) -> None:
    best = frontier(of_codec)
    colour, mark = COLOURS.get(codec, "black"), MARKS.get(codec, "o")
    bars = (
        [max(0.0, p.value - p.low) for p in best],
        [max(0.0, p.high - p.value) for p in best],
    )
    axis.errorbar(
        [p.rate for p in best], [p.value for p in best], yerr=bars, color=colour, marker=mark,
        capsize=2, label=codec, markersize=11 if mark == "*" else 4, linewidth=1,
    )  # fmt: skip
    rest = [p for p in of_codec if p not in best]
    axis.plot(
        [p.rate for p in rest], [p.value for p in rest], mark, color=colour, alpha=0.3, markersize=3
    )
