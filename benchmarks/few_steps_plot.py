"""The table of `benchmarks.few_steps` as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.decoder_plot import GUARDS, PANELS
from wsicodec.bench.table import Row, number

COLOURS = (
    "#616161", "#c2185b", "#1565c0", "#6a1b9a", "#2e7d32", "#f9a825", "#00838f", "#d84315",
)  # fmt: skip
LINES = {"renderer": "-", "autoencoder": ":"}


def plot(rows: Sequence[Row], picture: Path) -> Path:
    """A row of panels per drawn level: figures against seconds a tile, a line per recipe.

    Numbers beside points are steps. Full lines are through the renderer, dotted ones through the
    autoencoder's decoder; the dashed line is the anchor enlarged, grey the guard of octaves.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    levels = sorted({int(r["level"]) for r in rows})
    recipes = list(dict.fromkeys(r["recipe"] for r in rows if r["steps"] != "0"))
    colours = dict(zip(recipes, COLOURS, strict=False))
    size = (3.6 * len(PANELS), 3.2 * len(levels) + 0.5)
    figure, axes = plt.subplots(
        len(levels), len(PANELS), figsize=size, squeeze=False, layout="constrained"
    )
    for level, line in zip(levels, axes, strict=True):
        here = [r for r in rows if int(r["level"]) == level]
        for axis, (column, title) in zip(line, PANELS.items(), strict=True):
            _panel(axis, here, column, colours)
            axis.set_title(f"level {level} ({20 / 2**level:g}x): {title}", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("seconds a tile, one core", fontsize=8)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    return picture


def _panel(axis: Any, rows: Sequence[Row], column: str, colours: dict[str, str]) -> None:
    if column in GUARDS:
        axis.axhspan(*GUARDS[column], color="0.92")
    for row in rows:
        if row["steps"] == "0":
            axis.axhline(number(row, column), color="black", linestyle="--", linewidth=1)
    for recipe, colour in colours.items():
        for pixels, style in LINES.items():
            own = [r for r in rows if (r["recipe"], r["pixels"]) == (recipe, pixels)]
            own.sort(key=lambda r: int(r["steps"]))
            at = [number(r, "seconds_per_tile") for r in own]
            values = [number(r, column) for r in own]
            label = recipe if pixels == "renderer" else None
            axis.plot(at, values, "o", linestyle=style, color=colour, linewidth=1, markersize=3,
                      label=label)  # fmt: skip
            for time, value, row in zip(at, values, own, strict=True):
                axis.annotate(row["steps"], (time, value), (2, 2), textcoords="offset points",
                              size=6, color=colour)  # fmt: skip
    if column == "fd_held_out":
        axis.set_yscale("log")
    axis.tick_params(labelsize=7)
    axis.grid(visible=True, alpha=0.2)
