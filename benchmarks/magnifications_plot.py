"""The table of `benchmarks.magnifications` as a picture."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = {"oracle": "#1565c0", "generated": "#c2185b", "none": "#616161"}
MARKS = "os"


def plot(rows: Path, picture: Path, mags: Sequence[str], subjects: Sequence[str]) -> Path:
    """Distances by magnification, with intervals.

    Args:
        rows: the table.
        picture: the PNG to write.
        mags: names of magnifications from left to right.
        subjects: models, each with a mark of its own; a colour is a condition.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with rows.open(newline="", encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
    lines_ = [(subject, kind) for kind in COLOURS for subject in subjects]
    for number, (subject, kind) in enumerate(lines_):
        own = [r for r in found if r["subject"] == subject and r["setting"].endswith(f" {kind}")]
        aside = (number - (len(lines_) - 1) / 2) * 0.11
        _dots(axis, own, mags, aside, MARKS[subjects.index(subject)], COLOURS[kind])
    for row in found:
        if row["metric"] == "fd_real_halves" and row["setting"] in mags:
            at, value = mags.index(row["setting"]), float(row["value"])
            axis.hlines(value, at - 0.4, at + 0.4, color="black", linewidth=1)
    _legend(figure, axis, subjects)
    axis.set_xticks(range(len(mags)), list(mags))
    axis.set_yscale("log")
    axis.set_ylabel("Fréchet distance, held-out features")
    axis.grid(visible=True, axis="y", which="both", alpha=0.2)
    figure.savefig(picture, dpi=120)
    plt.close(figure)
    return picture


def _dots(
    axis: Any, rows: list[dict[str, str]], mags: Sequence[str], aside: float, mark: str, colour: str
) -> None:
    for row in rows:
        mag = row["setting"].partition(" ")[0]
        value, low, high = (float(row[k]) for k in ("value", "low", "high"))
        if mag in mags:
            bars = np.nan_to_num([[value - low], [high - value]])
            axis.errorbar(
                mags.index(mag) + aside, value, yerr=bars, fmt=mark, color=colour, capsize=2,
                markersize=5, linewidth=1, markerfacecolor=colour if mark == "o" else "white",
            )  # fmt: skip


def _legend(figure: Any, axis: Any, subjects: Sequence[str]) -> None:
    for kind, colour in COLOURS.items():
        axis.plot([], [], color=colour, linewidth=3, label=f"conditions: {kind}")
    for subject, mark in zip(subjects, MARKS, strict=False):
        full = "black" if mark == "o" else "white"
        axis.plot([], [], f"k{mark}", markerfacecolor=full, label=f"model of {subject}")
    axis.plot([], [], "k-", linewidth=1, label="two halves of the real ones")
    figure.legend(fontsize=7, frameon=False, ncols=3, loc="outside lower center")
