"""One job: decode all fields one way, judge them, and hand back rows. Runs in any process."""

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wsicodec.bench import provenance
from wsicodec.bench.fields import Mosaic
from wsicodec.bench.jobs import Job
from wsicodec.bench.judging import Judge, Truth, medians
from wsicodec.bench.options import Options
from wsicodec.bench.output import Output, Pixels
from wsicodec.bench.panel import embedder_digest, judges, panel_digest
from wsicodec.bench.strips import strip_name, tiles
from wsicodec.bench.table import KEYS
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.networks import load_embedder
from wsicodec.resample import box_reduce

LEVELS = (0, 1)
RATES = (0.004, 0.25)  # bits per pixel of tissue; rivals outside are not judged
Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """What a job gives: rows of all files together, rows of each, and a picture of some tiles."""

    rows: list[Row]
    file_rows: list[Row]
    strip: bytes  # WebP; empty where the rate lay outside
    strip_name: str


@dataclass(frozen=True)
class Bench:
    """The fields, the judges and the bundle of one group."""

    mosaic: Mosaic
    tight: Mosaic  # the same fields without white, for what has no windows
    options: Options
    work: Path
    command: str  # that anyone can repeat
    _truths: dict[int, Truth] = field(default_factory=dict)

    @cached_property
    def bundle(self) -> Bundle:
        """Whose weights draw."""
        return load_bundle(self.options.bundle)

    @cached_property
    def judge(self) -> Judge:
        """Who judges."""
        return Judge(
            judges(self.options, self.bundle),
            load_embedder(self.bundle),
            self.options.draws,
            similarity=not self.options.quick,
        )

    @cached_property
    def judge_digest(self) -> str:
        """Of all that figures depend on besides the pixels."""
        return panel_digest(self.options, self.bundle)

    def truth(self, level: int) -> Truth:
        """The originals at a level and their features."""
        if level not in self._truths:
            files = [f.file for f in self.mosaic.fields]
            crops = [np.asarray(box_reduce(f.rgb, 1 << level)) for f in self.mosaic.fields]
            self._truths[level] = self.judge.truth(level, crops, files, self.mosaic.tissue)
        return self._truths[level]

    def key(self, job: Job, level: int) -> Row:
        """What names a row."""
        ours = job.codec in ("wsicodec", "anchor", "autoencoder", "memory")
        weights = self.bundle.fingerprint[:12] if ours else ""
        names = (self.mosaic.name, self.mosaic.digest, self.judge_digest, job.codec, job.setting)
        return dict(zip(KEYS, (*names, job.seed, weights, level), strict=True))

    def do(self, job: Job) -> Result:
        """Run a job; see `rates` for what is left out."""
        output = make(self, job)
        bpp = 8 * output.bytes / self.mosaic.tissue_pixels
        if not self.key(job, 0)["weights"] and not RATES[0] <= bpp <= RATES[1]:
            row = self.key(job, -1) | {"bytes": output.bytes, "bpp_tissue": bpp}
            return Result([row], [], b"", "")
        rows, file_rows, strip = [], [], b""
        for level in LEVELS:
            began = time.perf_counter()
            drawn = output.levels(level)
            seconds = time.perf_counter() - began
            if np.isfinite(output.decode_seconds):
                seconds = output.decode_seconds
            made, of_files = self._judged(
                job, level, drawn, replace(output, decode_seconds=seconds)
            )
            rows.append(made)
            file_rows += of_files
            strip = strip or tiles(drawn)
        return Result(rows, file_rows, strip, strip_name(rows[0]))

    def _judged(
        self, job: Job, level: int, drawn: list[Pixels], output: Output
    ) -> tuple[Row, list[Row]]:
        truth = self.truth(level)
        pictures = self.judge.pictures(truth, drawn)
        figures = self.judge.measure(truth, drawn, windows=output.windows)
        bpp = 8 * output.bytes / self.mosaic.tissue_pixels
        key = self.key(job, level)
        made = key | {
            "files": len(set(truth.files)),
            "patches": int(self.mosaic.tissue.sum()),
            "bytes": output.bytes,
            "bpp_tissue": bpp,
            "bpp_fields": 8 * output.bytes / self.mosaic.pixels,
            **figures,
            **medians(pictures),
            "encode_seconds": output.encode_seconds,
            "decode_seconds": output.decode_seconds,
            "embedder": embedder_digest(self.bundle),
        }
        made |= self._provenance() | {"command": self.command}
        of_files = []
        for file in dict.fromkeys(truth.files):
            own = [p for p, f in zip(pictures, truth.files, strict=True) if f == file]
            rest = {"file": file, "fields": len(own), "bpp_tissue": bpp, **medians(own)}
            of_files.append(key | rest | self._provenance())
        return made, of_files

    def _provenance(self) -> dict[str, str]:
        return {
            "machine": provenance.machine(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "date": f"{datetime.now(tz=UTC):%Y-%m-%d}",
        }


def make(bench: Bench, job: Job) -> Output:
    """The fields through a job's codec."""
    if job.codec in ("wsicodec", "anchor"):
        from wsicodec.bench import ours

        if job.codec == "anchor":
            return ours.anchor_alone(bench.mosaic, job.setting, bench.bundle, bench.work)
        drawing = ours.Drawing.parse(job.setting, job.seed)
        return ours.draw(bench.mosaic, drawing, bench.bundle, bench.work)
    if job.codec == "autoencoder":
        from wsicodec.bench.ceiling import autoencoded

        return autoencoded(bench.mosaic, bench.bundle)
    if job.codec == "memory":
        return _remembered(bench)
    if job.codec == "compressai":
        from wsicodec.bench.learned import compressed

        return compressed(bench.tight, job.setting)
    return _rival(bench.tight, f"{job.codec} {job.setting}")


def _remembered(bench: Bench) -> Output:
    from wsicodec.bench.memory import load_bank, remember

    if bench.options.train is None:
        raise ConfigError("expected --train INDEX for the memorising decoder's tiles")
    embed = load_embedder(bench.bundle)
    return remember(bench.mosaic, load_bank(bench.options.train, embed), embed)


def _rival(tight: Mosaic, setting: str) -> Output:
    from wsicodec.bench.rivals import code
    from wsicodec.geometry import level_shape

    coded = code(tight.rgb, setting)
    shape = (tight.rgb.shape[0], tight.rgb.shape[1])

    def read(level: int) -> list[Pixels]:
        return tight.crops(coded.level(level, level_shape(shape, level)), level)

    return Output(coded.bytes, read, coded.encode_seconds, coded.decode_seconds)
