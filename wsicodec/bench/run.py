"""A run: gather fields, do what the tables lack in as many processes as asked, keep every row.

Beside the CSV `NAME.csv` of all files together lie `NAME_files.csv` with a row per file,
`NAME_outside.csv` with what rivals cost where their rate lay outside the range judged, and
`NAME_tiles/` with the pictures that the report shows. Whatever stands there already is not made
again: rivals are keyed by fields and judges alone, ours by the bundle's fingerprint too.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from wsicodec.bench.fields import Field, gather, lay_out
from wsicodec.bench.jobs import Job, plan, reduced
from wsicodec.bench.options import Options
from wsicodec.bench.spread import spread
from wsicodec.bench.strips import tiles, truth_name
from wsicodec.bench.table import FILE_KEYS, Table, outside_of
from wsicodec.bench.work import LEVELS, Bench, Result
from wsicodec.errors import WsiCodecError
from wsicodec.metrics.features import require_judges
from wsicodec.models.networks import cores

Progress = Callable[[int, int, str], None]
QUICK_FILES = 4
NAMED = 3  # inputs that a group's name tells


@dataclass(frozen=True)
class Tables:
    """The files of a run."""

    together: Table
    files: Table
    outside: Table
    tiles: Path

    @classmethod
    def beside(cls, out: Path, *, fresh: bool = False) -> "Tables":
        """Those that belong to a CSV."""
        stem = out.with_suffix("")
        return cls(
            Table(out, fresh=fresh),
            Table(stem.with_name(f"{stem.name}_files.csv"), FILE_KEYS, fresh=fresh),
            Table(outside_of(out), fresh=fresh),
            stem.with_name(f"{stem.name}_tiles"),
        )

    def lacks(self, bench: Bench, job: Job) -> bool:
        """Whether some row of a job is missing."""
        if self.outside.has(bench.key(job, -1)):
            return False
        return any(not self.together.has(bench.key(job, level)) for level in LEVELS)

    def keep(self, result: Result) -> None:
        """Write what a job gave; its rows come last, for they say that it is done."""
        if result.strip:
            self.tiles.mkdir(parents=True, exist_ok=True)
            (self.tiles / result.strip_name).write_bytes(result.strip)
        for row in result.file_rows:
            self.files.add(row)
        table = self.together if result.strip else self.outside
        for row in result.rows:
            table.add(row)


def run(options: Options, progress: Progress | None = None) -> list[str]:
    """Make all rows that are missing.

    Args:
        options: of the run.
        progress: called with (done, total, unit) as settings are finished.

    Returns:
        What failed, a line each; all else was done.

    Raises:
        ConfigError: no fields, no judge but the conditioning embedder, or a codec that cannot run.
    """
    options = reduced(options)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes, not threads, share the cores
    tables = Tables.beside(options.out, fresh=options.fresh)
    failed: list[str] = []
    for fields, name in _groups(options):
        with tempfile.TemporaryDirectory(prefix="wsicodec-bench-") as folder:
            work = Path(folder)
            _save(work, fields)
            bench = _shared(work, name, options, shown(sys.argv))
            require_judges(list(bench.judge.extractors))  # before hours are spent, not after
            _keep_truth(bench, tables)
            todo = [job for job in plan(options, bench.bundle) if tables.lacks(bench, job)]
            for done, (job, found) in enumerate(_results(bench, todo), 1):
                if isinstance(found, Result):
                    tables.keep(found)
                else:
                    failed.append(f"{job.codec} {job.setting}: {found}")
                if progress is not None:
                    progress(done, len(todo), "settings")
    return failed


def _groups(options: Options) -> Iterator[tuple[list[Field], str]]:
    """Fields of all inputs together, so that a distance has enough patches to rest on."""
    files = QUICK_FILES if options.quick else 10**9
    found: list[Field] = []
    for path in options.inputs:
        more = {"split": options.split, "mpp": options.mpp}
        found += gather(path, fields=options.fields, files=files, **more)  # type: ignore[arg-type]
    yield found, _name(options)


def _name(options: Options) -> str:
    names = [f"{p.stem} {options.split}" if p.suffix == ".csv" else p.name for p in options.inputs]
    return ", ".join(names) if len(names) <= NAMED else f"{names[0]} and {len(names) - 1} more"


def _save(work: Path, fields: Sequence[Field]) -> None:
    for number, field in enumerate(fields):
        np.savez(work / f"{number:05}.npz", rgb=field.rgb, name=field.name, source=field.file)


def _bench(work: Path, name: str, options: Options, command: str) -> Bench:
    fields = []
    for path in sorted(work.glob("*.npz")):
        with np.load(path) as saved:
            fields.append(Field(str(saved["name"]), str(saved["source"]), saved["rgb"]))
    return Bench(lay_out(name, fields), lay_out(name, fields, gap=0), options, work, command)


_shared = lru_cache(1)(_bench)  # of a process: one group at a time


def _do(work: Path, name: str, options: Options, command: str, job: Job) -> Result:
    return _shared(work, name, options, command).do(job)


def _results(bench: Bench, todo: Sequence[Job]) -> Iterator[tuple[Job, Result | WsiCodecError]]:
    do = partial(_do, bench.work, bench.mosaic.name, bench.options, bench.command)
    return spread(do, todo, min(bench.options.workers or cores(), max(1, len(todo))))


def _keep_truth(bench: Bench, tables: Tables) -> None:
    """The originals' tiles, for the report."""
    tables.tiles.mkdir(parents=True, exist_ok=True)
    crops = [f.rgb for f in bench.mosaic.fields]
    (tables.tiles / truth_name(bench.mosaic.digest)).write_bytes(tiles(crops))


def shown(arguments: list[str]) -> str:
    """A command line that anyone can repeat: paths by their last part."""
    words = [Path(a).name if "/" in a else a for a in arguments[1:]]
    entry = "wsicodec" if Path(arguments[0]).stem in ("wsicodec", "__main__") else "python -m "
    name = "" if entry == "wsicodec" else f"benchmarks.{Path(arguments[0]).stem}"
    return " ".join([entry + name, *words])
