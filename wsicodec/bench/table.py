"""A CSV that remembers what was measured: a row is never made twice."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wsicodec.errors import ConfigError

Row = dict[str, str]
NAMED = ("group", "fields_digest", "judges", "codec", "setting", "seed")
KEYS = (*NAMED, "weights", "level")  # what names a row; `weights` is empty for rivals
FILE_KEYS = (*KEYS, "file")


class Table:
    """Rows of one file, read before and appended to as they are made.

    Args:
        path: of the CSV; made when the first row comes.
        keys: columns that name a row.
        fresh: forget what stands there.
    """

    def __init__(self, path: Path, keys: Sequence[str] = KEYS, *, fresh: bool = False) -> None:
        self.path, self.keys = path, tuple(keys)
        if fresh:
            path.unlink(missing_ok=True)
        self.rows = read(path)
        self._known = {self._name(row) for row in self.rows}

    def _name(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(str(row[key]) for key in self.keys)

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of this name stands already."""
        return self._name(row) in self._known

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row unless it stands already; raises ConfigError on other columns."""
        if self.has(row):
            return
        text = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        if self.rows and list(self.rows[0]) != list(text):
            raise ConfigError(
                f"{self.path} has other columns than this run makes; take another --out, or --fresh"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(text), lineterminator="\n")
            if not self.rows:
                writer.writeheader()
            writer.writerow(text)
        self.rows.append(text)
        self._known.add(self._name(text))


def outside_of(out: Path) -> Path:
    """Where the CSV `out` has its rivals whose rate lay outside what is judged."""
    return out.with_name(f"{out.stem}_outside.csv")


def read(path: Path) -> list[Row]:
    """All rows of a CSV; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def number(row: Row, name: str) -> float:
    """A figure of a row; NaN where the column is missing or empty."""
    return float(row.get(name) or "nan")


def newest(rows: Iterable[Row], weights: str) -> list[Row]:
    """Rows of rivals, and of ours those drawn by the bundle whose fingerprint begins so."""
    return [row for row in rows if row["weights"] in ("", weights)]
