"""The table of `benchmarks.few_steps` as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.decoder_plot import panels
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
    recipes = list(dict.fromkeys(r["recipe"] for r in rows if r["steps"] != "0"))
    colours = dict(zip(recipes, COLOURS, strict=False))
    draw = lambda axis, here, column: _panel(axis, here, column, colours)  # noqa: E731
    with panels(rows, draw, below=0.5) as figure:
        told = figure.axes[0].get_legend_handles_labels()
        figure.legend(*told, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
        figure.savefig(picture, dpi=100)
    return picture


def _panel(axis: Any, rows: Sequence[Row], column: str, colours: dict[str, str]) -> None:
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
