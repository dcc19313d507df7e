"""Which files training draws from: rows of a CSV, or every slide below a folder."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from wsicodec.errors import ConfigError

SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".bif", ".svslide", ".vms", ".vmu"),
    *(".jpg", ".jpeg", ".png", ".jp2", ".webp", ".avif"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an index."""

    path: Path
    name: str  # relative to the folder
    source: str  # what no more than its share is drawn of: a patient, a hospital, an archive
    kind: str  # slide, region, tile or overview
    mpp: float | None  # µm per pixel of the finest level, where the index knows it
    digest: str  # 16 hex digits that name the file's cache


def read_index(root: Path, index: str, split: str) -> list[Entry]:
    """The files of a split, in an order that does not depend on the machine.

    root: folder that names in the index are relative to.
    index: a CSV in `root` with the column `file` and, where known, `source` (else `source repo`,
        else the file itself), `mpp` (or `est. mpp`), `split`, `kind` and `sha256_16`; rows without
        a split belong to every one. Empty: all slides and images below `root`; the first folder on
        the way to a file is its source, and a file without a folder is a source of its own.

    Raises ConfigError where there is no index, or nothing in it.
    """
    entries = _rows(root, root / index, split) if index else _found(root)
    if not entries:
        raise ConfigError(
            f"expected slides of the split {split!r} in {root / index}, found none; "
            "check the setting `root`, `index` and `split` of `data`"
        )
    return entries


def _rows(root: Path, path: Path, split: str) -> list[Entry]:
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except OSError as error:
        raise ConfigError(f"expected an index of slides at {path}: {error}") from error
    if rows and "file" not in rows[0]:
        raise ConfigError(f"expected a column `file` in {path}, got {sorted(rows[0])}")
    return [_entry(root, row) for row in rows if row.get("split", split) == split]


def _entry(root: Path, row: dict[str, str]) -> Entry:
    path, mpp = root / row["file"], row.get("mpp") or row.get("est. mpp")
    source = row.get("source") or row.get("source repo") or row["file"]
    return Entry(
        path,
        row["file"],
        source,
        row.get("kind") or "slide",
        float(mpp) if mpp else None,
        row.get("sha256_16") or _digest(path),
    )


def _found(root: Path) -> list[Entry]:
    entries = []
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in SUFFIXES and path.is_file():
            name = path.relative_to(root)
            entries.append(
                Entry(path, name.as_posix(), name.parts[0], "slide", None, _digest(path))
            )
    return entries


def _digest(path: Path) -> str:
    """Of what tells a file that was exchanged, without reading gigabytes."""
    try:
        facts = path.stat()
    except OSError as error:
        raise ConfigError(f"expected the slide {path} of the index: {error}") from error
    told = f"{path.resolve()}:{facts.st_size}:{facts.st_mtime_ns}"
    return hashlib.sha256(told.encode()).hexdigest()[:16]
