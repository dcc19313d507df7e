"""A benchmark's row, and the file that rows are kept in."""

import csv
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from wsicodec.bench.provenance import commit, machine, versions

RESULTS = Path(__file__).parent / "results"
_IDENTITY = ("benchmark", "subject", "setting", "metric")


@dataclass(frozen=True)
class Row:
    """One figure: median of `runs` with its extremes. The fields are the file's header."""

    benchmark: str
    subject: str  # what was measured: a slide's name, an operation
    setting: str  # preset, steps, backend, ...
    metric: str
    value: float
    unit: str
    low: float = float("nan")
    high: float = float("nan")
    runs: int = 1
    note: str = ""
    machine: str = field(default_factory=machine)
    command: str = field(default_factory=lambda: "python " + " ".join(_shown(sys.argv)))
    versions: str = field(default_factory=versions)
    commit: str = field(default_factory=commit)
    date: str = field(default_factory=lambda: f"{datetime.now(tz=UTC):%Y-%m-%d}")


def _shown(arguments: list[str]) -> list[str]:
    """A command line anyone can repeat: paths by their last part."""
    words = [Path(a).name if os.sep in a else a for a in arguments[1:]]
    return ["-m", f"benchmarks.{Path(arguments[0]).stem}", *words]


def write(name: str, rows: list[Row], folder: Path = RESULTS) -> Path:
    """Merge rows into results/<name>.csv; a row replaces the one of the same identity."""
    path = folder / f"{name}.csv"
    kept: dict[tuple[str, ...], dict[str, str]] = {}
    if path.exists():
        with path.open(newline="") as file:
            kept = {tuple(row[k] for k in _IDENTITY): row for row in csv.DictReader(file)}
    for row in rows:
        record = {k: _text(v) for k, v in asdict(row).items()}
        kept[tuple(record[k] for k in _IDENTITY)] = record
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept.values())
    return path


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
