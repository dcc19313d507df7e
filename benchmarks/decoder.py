"""What the decoder is worth: val through real stores, level by level, and what each part adds.

    python -m benchmarks.decoder INDEX.csv [--bundle NAME_OR_FOLDER...] [--out FILE.csv] [--fresh]

INDEX.csv is as for `benchmarks.rate_fid`. The val fields are encoded together and read from the
store in different ways; `--bundle` may be given several times, say for the network before
(`python -m benchmarks.decoder_before`) and after distillation, and the last one is the one whose
parts are taken away and whose fields are shown. A run goes on after the rows that it finds of the
same fields, judges and weights. FILE.csv has a row per way and level; its `change` is

    as shipped                        with the steps, and the seed of the noise, of the row
    anchor enlarged                   the stored coarse picture, bicubic: what drawing has to beat
    no embeddings                     the networks are told of none
    embeddings not quantised          they are told the vectors that the embedder gave
    embeddings exchanged              every tile is told of another tile of its file
    starts from the parent's latent   noised to ZoomLDM's t = 500, instead of from noise
    colours not locked                a tile need not keep its parent's colours above 16 pixels

and preset semantic is the one without an anchor. Columns besides those of `benchmarks.rate_fid`:

    default                whether it is what a reader of a new store gets
    generated              whether networks drew the level; else it is the anchor's own
    fd_inside, fd_corners, corners_over_inside    of squares drawn inside a window, and over the
                           corners of four, at the same places; see `decoder_seams`
    border_over_inside     steps across windows' borders over those inside windows, at the same
                           lines; `seam` compares with all other lines
    cosine, cosine_told    of tiles embedded again with the stored vectors, and with those told
    retrieval_100          probability of finding a tile among 100 by what it is embedded as again;
                           _source: among 100 of its own source, where there are so many
    chroma_0, _1, _2       energies of the finest octaves of red and blue over green, finest first,
                           over the original's: coloured flecks that grey hides
    grey_change            grey levels that pixels of level 0 differ from those as shipped

Beside it lie `_fields.csv` (each field alone, with its own distance), `_seconds.csv` (per tile, on
an idle machine), `.png` (quality against time), `.md` (the tables) and three sheets: the best, the
median and the worst field, the anchor enlarged, what is drawn and the truth from left to right,
20x above 10x.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import benchmarks.decoder_speed as speed
from benchmarks.decoder_jobs import (
    FIELD_KEYS,
    KEYS,
    LEVELS,
    Setting,
    compared_with,
    do,
    ground_of,
    key,
    label,
    plan,
)
from benchmarks.decoder_plot import plot
from benchmarks.decoder_sheets import LEVELS as SHOWN
from benchmarks.decoder_sheets import chosen, write_sheets
from benchmarks.decoder_tables import write_tables
from benchmarks.decoder_variants import Variant
from benchmarks.record import RESULTS, write
from wsicodec.bench.fields import lay_out
from wsicodec.bench.spread import spread
from wsicodec.bench.table import Table, read
from wsicodec.errors import WsiCodecError
from wsicodec.models.bundle import DEFAULT_BUNDLE, load_bundle
from wsicodec.models.networks import cores

STEPS = (1, 2, 4, 8)
ROUNDS = 5


def measure(setting: Setting, variants: Sequence[Variant], out: Path, workers: int) -> None:
    """Make the rows of variants that are missing, in as many processes as asked."""
    table, fields = tables(out)
    ground = ground_of(setting)
    todo = [v for v in variants if not table.has(key(ground, v, LEVELS[-1]))]
    results = spread(partial(do, setting), todo, workers, compared_with)
    for number, (_, found) in enumerate(results, 1):
        if isinstance(found, WsiCodecError):
            raise found
        rows, of_fields = found
        for row in of_fields:
            fields.add(row)
        for row in rows:
            table.add(row)
        told = f"{rows[0]['label']} {rows[0]['preset']} {rows[0]['change']}, {rows[0]['steps']}"
        print(f"{number}/{len(todo)} {told} steps", flush=True)


def tables(out: Path, *, fresh: bool = False) -> tuple[Table, Table]:
    """Rows of all fields together and of each; `fresh` forgets those that stand."""
    each = Table(_beside(out, "fields.csv"), FIELD_KEYS, fresh=fresh)
    return Table(out, KEYS, fresh=fresh), each


def measure_speed(
    setting: Setting, bundles: Sequence[str], steps: Sequence[int], out: Path
) -> None:
    """Seconds of what is not timed yet."""
    path = _beside(out, "seconds.csv")
    known = {row["subject"] for row in read(path)}
    fields = ground_of(setting).mosaic.fields
    one = lay_out("one field", fields[:1])
    for bundle in bundles:
        if f"{label(bundle)} {load_bundle(bundle).fingerprint[:12]}" not in known:
            with tempfile.TemporaryDirectory(dir=setting.work) as folder:
                made = speed.rows(one, bundle, label(bundle), steps, ROUNDS, Path(folder))
            write(path.stem, made, path.parent)


def show(setting: Setting, bundles: Sequence[str], out: Path) -> list[Path]:
    """Plot, tables and sheets of what stands in the files."""
    weights = [load_bundle(b).fingerprint[:12] for b in bundles]
    ground = ground_of(setting)
    judges = key(ground, Variant(bundles[-1], "standard"), 0)["judges"]
    own = {"fields_digest": ground.mosaic.digest, "judges": judges}

    def same(path: Path) -> list[dict[str, str]]:
        kept = [r for r in read(path) if all(r[k] == v for k, v in own.items())]
        return [r for r in kept if r["weights"] in weights]

    rows, seconds = same(out), read(_beside(out, "seconds.csv"))
    made = [
        plot(rows, seconds, out.with_suffix(".png")),
        write_tables(rows, seconds, weights[-1], out.with_suffix(".md")),
    ]
    shown = [
        r
        for r in same(_beside(out, "fields.csv"))
        if (r["weights"], r["preset"]) == (weights[-1], "standard") and int(r["level"]) in SHOWN
    ]
    stem = out.with_suffix("")
    return made + write_sheets(ground.mosaic, bundles[-1], chosen(shown), stem, setting.work)


def _beside(out: Path, name: str) -> Path:
    return out.with_name(f"{out.stem}_{name}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.decoder", description=__doc__.split("\n")[0])
    parser.add_argument("index", type=Path)
    parser.add_argument("--bundle", action="append", help="name or folder; the shipped one last")
    parser.add_argument("--out", type=Path, default=RESULTS / "decoder.csv")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS))
    parser.add_argument("--files", type=int, default=10**9, help="of the index, at most")
    parser.add_argument("--draws", type=int, default=60, help="of the bootstrap")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--fresh", action="store_true", help="forget rows made before, not times")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes, not threads, share the cores
    bundles = given.bundle or [DEFAULT_BUNDLE]
    tables(given.out, fresh=given.fresh)
    with tempfile.TemporaryDirectory(prefix="wsicodec-decoder-") as folder:
        setting = Setting(given.index, Path(folder), given.files, given.draws)
        measure_speed(setting, bundles, given.steps, given.out)
        measure(setting, plan(bundles, given.steps), given.out, given.workers)
        for path in show(setting, bundles, given.out):
            print(path)


if __name__ == "__main__":
    main()
