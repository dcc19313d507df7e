"""Loss curves of the shipped runs as one picture.

    python -m benchmarks.training_curves

Reads the committed logs in results/training; a curve that falls back to its first patch begins a
further part of the same run, and is drawn on from where the last one ended.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent / "results" / "training"
SIZE = (9.0, 4.2)  # inches
DPI = 60


@dataclass(frozen=True, slots=True)
class Panel:
    """One run and the columns of its log that are drawn, each divided by its own first value."""

    part: str
    columns: tuple[str, ...]


PANELS = (
    Panel("autoencoder", ("loss", "texture")),
    Panel("embedder", ("distil", "density")),
    Panel("zoomldm", ("error", "error_start")),
    Panel("distill", ("close", "near", "texture", "chroma", "fooled")),
    Panel("edm", ("loss", "content", "outline")),
)


def curve(path: Path, column: str) -> tuple[list[int], list[float]]:
    """Patches seen, counted over all parts of a run, and a column's values where it has some."""
    seen: list[int] = []
    values: list[float] = []
    before = last = 0
    with path.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            patches = int(row["seen"])
            before += last if patches < last else 0
            last = patches
            if row[column]:
                seen.append(before + patches)
                values.append(float(row[column]))
    return seen, values


def draw(folder: Path, out: Path) -> None:
    """Write the picture of all panels."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=SIZE, layout="constrained")
    for axis, panel in zip(axes.flat, PANELS, strict=False):
        for column in panel.columns:
            seen, values = curve(folder / f"{panel.part}.csv", column)
            relative = [value / values[0] for value in values]
            axis.plot([n / 1000 for n in seen], relative, label=column, linewidth=1)
        axis.set_title(panel.part, fontsize=9)
        axis.set_yscale("log")
        axis.tick_params(labelsize=7, which="both")
        axis.legend(fontsize=6)
    for axis in axes.flat[len(PANELS) :]:
        axis.set_axis_off()
    figure.supxlabel("patches seen, thousands", fontsize=8)
    figure.supylabel("relative to the first value", fontsize=8)
    figure.savefig(out, dpi=DPI)
    plt.close(figure)


def main() -> None:
    """Parse and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE)
    parser.add_argument("--out", type=Path, default=HERE / "curves.png")
    given = parser.parse_args()
    draw(given.folder, given.out)


if __name__ == "__main__":
    main()
