"""Rate against a distance, one panel a level, as PNG and SVG."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Table = Sequence[dict[str, str]]
COLOURS = {
    "wsicodec": "#c2185b",
    "anchor": "#616161",
    "jpeg": "#8d6e63",
    "jpeg2000": "#f9a825",
    "jpegxl": "#2e7d32",
    "avif": "#1565c0",
    "webp": "#6a1b9a",
}
MARKS = {"wsicodec": "*", "anchor": "s"}


def frontier(points: Iterable[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Points (rate, distance, ...) that no cheaper one beats, cheapest first."""
    best: list[tuple[float, ...]] = []
    for point in sorted(points):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def plot(rows: Table, judge: str, stem: Path) -> list[Path]:
    """Draw each group's rows into `<stem>_<judge>_<group>.png` and `.svg`.

    A rival's line is the frontier of its settings, alone and behind every downsample; bars are
    intervals over files. The dashed line is the autoencoder alone, whose rate is not defined.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    groups: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        if f"fd_{judge}" in row:
            groups[row["group"]].append(row)
    made = []
    for name, chosen in groups.items():
        levels = sorted({int(row["level"]) for row in chosen})
        figure, axes = plt.subplots(1, len(levels), figsize=(6.4 * len(levels), 4.8), squeeze=False)
        for axis, level in zip(axes[0], levels, strict=True):
            _panel(axis, [r for r in chosen if int(r["level"]) == level], judge)
            axis.set_title(f"{name}, level {level} ({20 / 2**level:g}x)")
        figure.tight_layout()
        for suffix in (".png", ".svg"):
            word = "".join(c if c.isalnum() else "-" for c in name)
            path = stem.with_name(f"{stem.name}_{judge}_{word}{suffix}")
            figure.savefig(path, dpi=130)
            made.append(path)
        plt.close(figure)
    return made


def _panel(axis: Any, rows: Table, judge: str) -> None:
    by_codec: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for row in rows:
        names = ("bpp_tissue", f"fd_{judge}", f"fd_{judge}_low", f"fd_{judge}_high")
        point = tuple(float(row[n]) for n in names)
        if row["codec"] == "autoencoder":
            axis.axhline(point[1], color="#c2185b", linestyle="--", label="autoencoder alone")
        else:
            by_codec[row["codec"]].append(point)
    for codec, points in sorted(by_codec.items()):
        colour, mark = COLOURS.get(codec, "black"), MARKS.get(codec, "o")
        best = sorted(points) if codec == "wsicodec" else frontier(points)
        x, y, low, high = (list(column) for column in zip(*best, strict=True))
        below = [max(0.0, v - lo) for v, lo in zip(y, low, strict=True)]
        above = [max(0.0, hi - v) for v, hi in zip(y, high, strict=True)]
        axis.errorbar(
            x, y, yerr=(below, above), color=colour, marker=mark, capsize=2, label=codec,
            markersize=11 if mark == "*" else 4, linewidth=1,
        )  # fmt: skip
        rest = [p for p in points if p not in best]
        axis.plot(
            [p[0] for p in rest], [p[1] for p in rest], mark, color=colour, alpha=0.3, markersize=3
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("bits per level-0 pixel of tissue, all bytes")
    axis.set_ylabel(f"Fréchet distance ({judge.replace('_', ' ')} features)")
    axis.grid(visible=True, which="both", alpha=0.2)
    axis.legend(fontsize=8)
