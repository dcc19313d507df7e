"""Rate against Fréchet distance: wsicodec and its rivals on the same fields.

    python -m benchmarks.rate_fid INPUT... [--quick] [--out FILE]

An INPUT is a slide, a picture, a folder of them, or an index such as MANIFEST.csv (its rows of
`--split`); each is one group. A row of the CSV is a group, a codec, a setting and a level. Rows
that the file already has for this group's pixels and this bundle are not made again, so a run that
was stopped goes on where it stood; `--fresh` makes them anew.

    bytes         everything: a store's files of every kind, a rival's file of the whole mosaic
    bpp_tissue    over level-0 pixels of patches with tissue
    bpp_fields    over level-0 pixels of the fields; the white between them is nobody's
    fd_NAME...    Fréchet distance of features NAME, its interval over files (95 %)
    kd_, cmmd_    kernel distance, CMMD; precision_, recall_
    energy_0...   octave energies over the truth's, finest first; kurtosis_ likewise
    seam          step over window borders over that inside; seam_true is the original's
    anchor        the codec `anchor` is the stored coarse picture alone, its own bytes, enlarged
    autoencoder   level by level through the autoencoder from the original; it has no rate
    cosine, retrieval   of tiles embedded again, the latter among 32
"""

import argparse
import csv
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

import wsicodec
from benchmarks.fields import Field, Mosaic, cut, lay_out, sources
from benchmarks.judging import Judge, Truth
from benchmarks.plot_rate_fid import plot
from benchmarks.record import RESULTS, Row
from benchmarks.rivals import FACTORS, RIVALS, ladder
from wsicodec.errors import WsiCodecError
from wsicodec.geometry import PATCH, level_shape
from wsicodec.metrics import features
from wsicodec.metrics.rate import bytes_on_disk
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.networks import load_drawing, load_embedder, to_network
from wsicodec.resample import box_reduce, double

Pixels = NDArray[np.uint8]
Levels = Callable[[int], Pixels]
"""A level of the mosaic as decoded."""
LEVELS = (0, 1)
MPP = 0.5  # µm per pixel that a mosaic is said to have
PRESETS = ("semantic", "standard", "detail")
RATES = (0.002, 0.7)  # bits per pixel of tissue; rivals outside are not judged
KEYS = ("group", "mosaic", "bundle", "codec", "setting", "level")


@dataclass(frozen=True)
class Output:
    """What a codec gives back and what it cost; NaN where nothing was stored."""

    codec: str
    setting: str
    bytes: float
    levels: Levels
    encode_seconds: float = float("nan")
    decode_seconds: float = float("nan")


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    presets: tuple[str, ...]
    steps: tuple[int, ...]
    rivals: tuple[str, ...]
    factors: tuple[int, ...]
    per_rival: int
    fields: int  # of one file
    files: int | None  # of one group


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


def ours(plan: Plan, bundle: Bundle) -> Iterator[tuple[str, str, Any]]:
    """Every preset at every count of steps, and the anchor alone, enlarged."""
    for preset in plan.presets:
        for steps in plan.steps:
            yield "wsicodec", f"{preset}, {steps or 'default'} steps", (preset, steps)
        if bundle.anchor(preset):
            yield "anchor", preset, (preset, -1)


@contextmanager
def _stored(mosaic: Mosaic, preset: str, steps: int, bundle: Bundle) -> Iterator[Output]:
    """The mosaic through a real store; steps of -1 take its anchor alone."""
    with _folder() as folder:
        began = time.perf_counter()
        path = folder / "mosaic.zarr"
        wsicodec.encode(mosaic.rgb, path, preset=preset, mpp=MPP, bundle=bundle.path)
        seconds = time.perf_counter() - began
        group = wsicodec.open(path, steps=max(steps, 0))
        plan = bundle.anchor(preset)
        if steps >= 0:
            name = f"{preset}, {steps or 'default'} steps"
            yield Output("wsicodec", name, bytes_on_disk(path), _reader(mosaic, group), seconds)
        elif plan is not None:
            size = bytes_on_disk(path / "anchor")
            yield Output("anchor", preset, size, _enlarger(group, plan.level), seconds)


def _reader(mosaic: Mosaic, group: zarr.Group) -> Levels:
    """Draws the fields alone: nobody asks for the white between them."""

    def read(level: int) -> Pixels:
        out = np.full((*level_shape(mosaic.rgb.shape[:2], level), 3), 255, np.uint8)
        for field in mosaic.fields:
            place = field.region.scale_down(1 << level).slices()
            out[place] = group[str(level)][place]
        return out

    return read


def _enlarger(group: zarr.Group, anchor: int) -> Levels:
    def read(level: int) -> Pixels:
        rgb = np.asarray(group[str(anchor)][...], np.float32)
        for _ in range(anchor - level):
            rgb = double(rgb)
        return np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8)

    return read


def ceiling(mosaic: Mosaic, bundle: Bundle) -> Output:
    """The autoencoder alone, each level through it: what no denoiser of its latents surpasses."""
    networks = load_drawing(bundle, "torch")

    def read(level: int) -> Pixels:
        out = box_reduce(mosaic.rgb, 1 << level).copy()
        for field in mosaic.fields:
            place = field.region.scale_down(1 << level).slices()
            latent = networks.encode(to_network(out[place][None]))
            rgb = (networks.decode(latent)[0].transpose(1, 2, 0) + 1) * 127.5
            out[place] = np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8)
        return out

    return Output("autoencoder", "alone", float("nan"), read)


class Table:
    """The CSV, read before and appended to row by row."""

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        if fresh:
            path.unlink(missing_ok=True)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as lines:
                self.rows = list(csv.DictReader(lines))

    def has(self, row: dict[str, Any]) -> bool:
        return any(all(old[k] == str(row[k]) for k in KEYS) for old in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        text = {k: f"{v:.6g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        if self.rows and list(self.rows[0]) != list(text):
            raise WsiCodecError(f"{self.path} has other columns; give another --out or --fresh")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, list(text), lineterminator="\n")
            if not self.rows:
                writer.writeheader()
            writer.writerow(text)
        self.rows.append(text)


class Group:
    """One mosaic against all codecs."""

    def __init__(self, mosaic: Mosaic, judge: Judge, bundle: Bundle, table: Table) -> None:
        self.mosaic, self.judge, self.bundle, self.table = mosaic, judge, bundle, table
        with _folder() as folder:
            report = wsicodec.encode(
                mosaic.rgb, folder / "s", preset="semantic", mpp=MPP, bundle=bundle.path
            )
            self.tissue_pixels = report.tissue_pixels
            classes = zarr.open_group(folder / "s", mode="r")["tissue"][...]
        cells = [classes[f.region.scale_down(PATCH).slices()].ravel() > 0 for f in mosaic.fields]
        self.tissue = np.concatenate(cells)
        self._truths: dict[int, Truth] = {}

    def truth(self, level: int) -> Truth:
        if level not in self._truths:
            files = [f.file for f in self.mosaic.fields]
            rgb = box_reduce(self.mosaic.rgb, 1 << level)
            fields = self.crops(rgb, level)
            self._truths[level] = self.judge.truth(level, fields, files, self.tissue)
        return self._truths[level]

    def crops(self, rgb: Pixels, level: int) -> list[Pixels]:
        places = [f.region.scale_down(1 << level).slices() for f in self.mosaic.fields]
        return [np.ascontiguousarray(rgb[place]) for place in places]

    def key(self, codec: str, setting: str, level: int) -> dict[str, Any]:
        names = self.mosaic.name, self.mosaic.digest, self.bundle.fingerprint[:12]
        return dict(zip(KEYS, (*names, codec, setting, level), strict=True))

    def lacks(self, codec: str, setting: str) -> bool:
        return any(not self.table.has(self.key(codec, setting, level)) for level in LEVELS)

    def bpp(self, size: float) -> float:
        return 8 * size / self.tissue_pixels

    def judge_output(self, output: Output) -> None:
        for level in LEVELS:
            row = self.key(output.codec, output.setting, level)
            if self.table.has(row):
                continue
            began = time.perf_counter()
            rgb = output.levels(level)
            drawn = time.perf_counter() - began
            if np.isfinite(output.decode_seconds):
                drawn = output.decode_seconds
            row |= {
                "fields": len(self.mosaic.fields),
                "patches": int(self.tissue.sum()),
                "bytes": output.bytes,
                "bpp_tissue": self.bpp(output.bytes),
                "bpp_fields": 8 * output.bytes / self.mosaic.pixels,
                **self.judge.measure(self.truth(level), self.crops(rgb, level)),
                "encode_seconds": output.encode_seconds,
                "decode_seconds": drawn,
            }
            record = Row("", "", "", "", 0, "")
            row |= {n: getattr(record, n) for n in ("machine", "command", "versions", "commit")}
            self.table.add(row | {"date": record.date})
            self._tell(row)

    def _tell(self, row: dict[str, Any]) -> None:
        names = [f"fd_{e.name}" for e in self.judge.extractors]
        told = "  ".join(f"{n} {row[n]:.4g}" for n in (*names, "psnr", "energy_0"))
        print(
            f"{row['codec']} {row['setting']}  level {row['level']}  "
            f"{row['bpp_tissue']:.4f} bpp  {told}",
            flush=True,
        )


def run(group: Group, plan: Plan) -> None:
    """Everything a plan asks for that the table lacks."""
    for codec, setting, (preset, steps) in ours(plan, group.bundle):
        if group.lacks(codec, setting):
            with _stored(group.mosaic, preset, steps, group.bundle) as output:
                group.judge_output(output)
    if group.lacks("autoencoder", "alone"):
        group.judge_output(ceiling(group.mosaic, group.bundle))
    for codec, setting, code in ladder(group.mosaic.rgb, plan.rivals, plan.factors, plan.per_rival):
        if not group.lacks(codec, setting):
            continue
        coded = code()
        if not RATES[0] <= group.bpp(coded.bytes) <= RATES[1]:
            continue
        shape = group.mosaic.rgb.shape[:2]

        def read(level: int, coded: Any = coded, shape: Any = shape) -> Pixels:
            rgb: Pixels = coded.level(level, level_shape(shape, level))
            return rgb

        times = coded.encode_seconds, coded.decode_seconds
        group.judge_output(Output(codec, setting, coded.bytes, read, *times))


def gather(given: argparse.Namespace, plan: Plan) -> list[Mosaic]:
    """One mosaic per input."""
    mosaics = []
    for path in given.inputs:
        found: list[Field] = []
        chosen = sources(path, given.split, given.mpp)
        kept = (fields for file, mpp in chosen if (fields := cut(file, mpp, plan.fields)))
        for fields in islice(kept, plan.files):
            found += fields
        name = f"{path.stem} {given.split}" if path.suffix == ".csv" else path.name
        mosaics.append(lay_out(name, found))
    return mosaics


def _judge(given: argparse.Namespace, bundle: Bundle) -> Judge:
    embed = load_embedder(bundle)
    extractors = [] if given.no_held_out else [features.held_out()]
    if given.inception:
        extractors.append(features.inception(given.inception))
    own = bundle.config["files"].get("embedder.onnx")
    for path in given.onnx:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        extractors.append(replace(features.from_onnx(path), conditions=digest == own))
    features.require_judges(extractors)
    return Judge(extractors, embed, 20 if given.quick else given.draws, not given.quick)


def _plan(given: argparse.Namespace) -> Plan:
    only = tuple(given.only or ("wsicodec", *RIVALS))
    rivals = tuple(name for name in RIVALS if name in only)
    presets = PRESETS if "wsicodec" in only else ()
    plan = Plan(presets, tuple(given.steps), rivals, FACTORS, 5, given.fields, None)
    if given.quick:
        plan = replace(plan, steps=(0,), factors=(1, 4), per_rival=2, fields=1, files=4)
    return plan


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser("benchmarks.rate_fid", description=__doc__.split("\n")[0])
    made.add_argument("inputs", nargs="+", type=Path, metavar="INPUT")
    made.add_argument("--quick", action="store_true", help="four files, two settings of each rival")
    made.add_argument("--out", type=Path, default=RESULTS / "rate_fid.csv")
    made.add_argument("--fresh", action="store_true", help="forget the rows of --out")
    made.add_argument("--bundle", help="name or folder; the embedded default otherwise")
    made.add_argument("--split", default="val", help="of an index")
    made.add_argument("--mpp", type=float, help="of pictures that do not say it")
    made.add_argument("--fields", type=int, default=4, help="of one file, at most")
    made.add_argument("--steps", type=int, nargs="+", default=[0], help="0: the store's own")
    made.add_argument("--only", nargs="+", choices=("wsicodec", *RIVALS))
    made.add_argument("--inception", type=Path, help="weights of Inception-v3 in the FID layout")
    made.add_argument("--onnx", type=Path, nargs="+", default=[], help="further judges")
    made.add_argument("--no-held-out", action="store_true")
    made.add_argument("--draws", type=int, default=60, help="of the bootstrap")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    given = parser().parse_args(arguments)
    plan, bundle = _plan(given), load_bundle(given.bundle)
    judge, table = _judge(given, bundle), Table(given.out, fresh=given.fresh)
    for mosaic in gather(given, plan):
        print(f"{mosaic.name}: {len(mosaic.fields)} fields on {mosaic.rgb.shape[:2]}", flush=True)
        run(Group(mosaic, judge, bundle, table), plan)
    for extractor in judge.extractors:
        plot(table.rows, extractor.name, given.out.with_suffix(""))


if __name__ == "__main__":
    main()
