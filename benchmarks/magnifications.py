"""The seed paper's table: one model of all magnifications against a model for each.

    python -m benchmarks.magnifications --config FILE.json

FILE fills a `Comparison`, as benchmarks/configs/magnifications.json does; the run folders that it
names come from `python -m wsicodec.train`. Nine denoisers of one size see the same number of
patches: one of all magnifications, and one of each. No model is given a parent, as in the paper: a
picture follows from its condition and noise. Rows:

    fd_held_out     Fréchet distance of held-out features to real pictures of the magnification,
                    conditions taken from those very pictures (oracle), made up by the embedding
                    diffusion model (generated), or left out (none); with a 95 % interval over the
                    real pictures' files
    fd_real_halves  the same between two halves of the real pictures: what a distance of so few
                    pictures is even when both sets are real

Every row says how many pictures, and of how many files, were compared. The sets are small, and at
low magnifications very small: read the intervals, not the last digits. A distance of n pictures is
above zero even between equal sets, the more so the fewer there are, so it compares only with others
of its own magnification; `fd_real_halves` is taken of half as many.

A row is written as soon as it is known, and a run goes on after the rows that it finds of the same
FILE and models. The plot goes to results/magnifications.png.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.magnifications_plot import plot
from benchmarks.record import RESULTS, Row, write
from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.diffusion.windows import CELL
from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS, Region
from wsicodec.metrics.bootstrap import Interval, interval, resample
from wsicodec.metrics.distances import frechet_distance
from wsicodec.metrics.features import Extractor, held_out
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.synthesis.conditions import COVERED, conditions
from wsicodec.train.bundle import PLACES, load_tables, load_zoomldm
from wsicodec.train.config import load_config, to_record
from wsicodec.train.data import DataConfig, Window, generator
from wsicodec.train.edm_export import runnable
from wsicodec.train.loop import Run
from wsicodec.train.streamed import StreamedVariant
from wsicodec.train.variants import VariantConfig
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining, draw

NAME = "magnifications"
ALL = "all magnifications"
ONE = "one magnification"
FEWEST = 4  # pictures that a distance is taken of
TRIES = 40  # windows looked at for each that is wanted
Vectors = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is trained, and what it is compared on."""

    folder: str = "runs/magnifications"  # a run folder for each model
    training: ZoomTraining = field(default_factory=ZoomTraining)
    edm: str = "runs/edm"
    data: DataConfig = field(default_factory=DataConfig)  # real pictures to compare with
    variants: VariantConfig = field(default_factory=VariantConfig)
    pictures: int = 128  # of each set, where there are so many
    side: int = 128  # pixels of a picture
    steps: int = 8
    seed: int = 0
    draws: int = 100  # of the bootstrap


def models(mags: Sequence[int]) -> dict[str, tuple[float, ...]]:
    """Shares of magnifications by model."""
    told = {ALL: tuple(float(m in mags) / len(mags) for m in range(LEVELS))}
    return told | {label(m): tuple(float(m == k) for k in range(LEVELS)) for m in mags}


def label(mag_index: int) -> str:
    return f"{20 / 2**mag_index:g}x"


def training_of(comparison: Comparison, name: str, shares: tuple[float, ...]) -> ZoomTraining:
    """The common training with magnifications of its own and hardly a parent."""
    base = comparison.training
    folder = str(Path(comparison.folder) / name.replace(" ", "_"))
    # A few parents, as the denoiser's linear start is fitted to them.
    parents = dataclasses.replace(base.parents, none=0.9, none_coarse=0.9)
    data = dataclasses.replace(base.data, magnifications=shares)
    return dataclasses.replace(base, folder=folder, data=data, parents=parents)


def train(comparison: Comparison, name: str, shares: tuple[float, ...]) -> ZoomLDM:
    """Train a model to the end of its budget, or take the one that is there; its average."""
    config = training_of(comparison, name, shares)
    stage = ZoomStage(config)
    Run(stage, config.loop, config.rate, Path(config.folder), to_record(config)).train()
    return load_zoomldm(Path(config.folder))[0]


@dataclass(frozen=True)
class Real:
    """Real pictures of one magnification with their conditions."""

    rgb: NDArray[np.uint8]  # (n, side, side, 3)
    cond: NDArray[np.float32]  # (n, d + 1, cells, cells); zero where there are no embeddings
    files: list[str]


def real_pictures(stage: ZoomStage, comparison: Comparison, mag: int) -> Real | None:
    """Windows of a magnification, of embedded tissue where there is any; None if there are few."""
    side = comparison.side
    sampler = stage.samplers[side]
    if not sampler.choices[mag]:
        return None
    found: dict[bool, list[tuple[NDArray[np.uint8], NDArray[np.float32], str]]]
    found = {True: [], False: []}
    seen = set()
    for number in range(TRIES * comparison.pictures):
        rng = generator(comparison.seed + 7, mag * 10**6 + number)
        window = sampler.draw_at(rng, mag, side, CELL)
        if window in seen:
            continue
        seen.add(window)
        variant, cond = stage.variants[window.picture], condition(stage, window)
        rgb = variant.crop(window.level, window.y, window.x, side)
        file = variant.slide.name if isinstance(variant, StreamedVariant) else variant.folder.name
        found[bool(cond[-1].mean() >= COVERED)].append((rgb, cond, file))
        if len(found[True]) == comparison.pictures:
            break
    chosen = found[True] if len(found[True]) >= FEWEST else found[False]
    chosen = chosen[: comparison.pictures]
    if len(chosen) < FEWEST:
        return None
    return Real(
        np.stack([rgb for rgb, _, _ in chosen]),
        np.stack([cond for _, cond, _ in chosen]),
        [file for _, _, file in chosen],
    )


def condition(stage: ZoomStage, window: Window) -> NDArray[np.float32]:
    """The conditioning map of a window; zero where its picture has no embeddings."""
    grid, cells = stage.grids[window.picture], window.side // CELL
    if grid is None:
        width = stage.config.model.summarizer.embedding_width
        return np.zeros((width + 1, cells, cells), np.float32)
    region = Region(window.y, window.x, window.y + window.side, window.x + window.side)
    return grid.under(region, window.level)


def drawn(
    model: ZoomLDM, stage: ZoomStage, cond: NDArray[np.float32], mag: int, comparison: Comparison
) -> NDArray[np.uint8]:
    """Pictures (n, side, side, 3) from conditions and noise."""
    torch.manual_seed(comparison.seed)
    cells = 4 * cond.shape[2]
    parts = []
    for first in range(0, len(cond), 16):
        given = torch.from_numpy(cond[first : first + 16])
        n = len(given)
        batch: dict[str, Tensor] = {
            "noise": torch.randn(n, model.config.unet.latent_channels, cells, cells),
            "parent": torch.zeros(n, 3, 4 * cells, 4 * cells),
            "has_parent": torch.zeros(n),
            "cond": given,
            "mag": torch.full((n,), mag),
        }
        with torch.no_grad():
            rgb = stage.autoencoder.decode(draw(model, batch, comparison.steps))
        parts.append(rgb.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def distance(real: Vectors, other: Vectors, files: Sequence[str], count: int) -> Interval:
    """Fréchet distance with an interval over the real pictures' files; paired if as many."""
    paired = len(real) == len(other)

    def measure(rows: NDArray[np.intp]) -> float:
        return frechet_distance(real[rows], other[rows] if paired else other)

    whole = np.arange(len(real))
    if len(set(files)) < 2:
        return Interval(measure(whole), float("nan"), float("nan"))
    return interval(measure(whole), resample(measure, files, count=count))


Name = tuple[str, str, str]  # subject, setting, metric


def compare(
    comparison: Comparison,
    judge: Extractor,
    mags: Sequence[int] = range(LEVELS),
    known: Collection[Name] = (),
) -> Iterator[Row]:
    """Train what is not trained yet, draw, and measure; rows as they are made.

    known: rows that are not to be made again.
    """
    base = dataclasses.replace(
        comparison.training,
        data=comparison.data,
        variants=comparison.variants,
        sides=(comparison.side,),
    )
    stage = ZoomStage(base, fresh=False)
    reals = {m: found for m in mags if (found := real_pictures(stage, comparison, m)) is not None}
    if not reals:
        raise ConfigError(
            f"expected real pictures of {comparison.side} px in the variants, found none; "
            "run the stage `variants`"
        )
    trained = {name: train(comparison, name, s) for name, s in models(list(reals)).items()}
    for mag, real in reals.items():
        if not set(names_of(mag, real)) <= set(known):
            yield from _compared(comparison, judge, stage, trained, mag, real, known)


def names_of(mag: int, real: Real) -> list[Name]:
    """The rows that a magnification gets."""
    kinds = ["generated", "none"] + ["oracle"] * bool(real.cond[:, -1].mean() >= COVERED)
    told = [
        (subject, f"{label(mag)} {kind}", "fd_held_out") for subject in (ALL, ONE) for kind in kinds
    ]
    return [("real", label(mag), "fd_real_halves"), *told]


def _compared(
    comparison: Comparison,
    judge: Extractor,
    stage: ZoomStage,
    trained: dict[str, ZoomLDM],
    mag: int,
    real: Real,
    known: Collection[Name],
) -> Iterator[Row]:
    truth = judge(real.rgb)
    note = f"{len(real.rgb)} real of {len(set(real.files))} files"
    floor = frechet_distance(truth[::2], truth[1::2])
    halves = Interval(floor, float("nan"), float("nan"))
    told_how = f"{_budget(comparison)}, {configuration(comparison)}"
    yield _row("real", label(mag), "fd_real_halves", halves, f"{note}, {told_how}")
    kinds = {"generated": generated(comparison, mag), "none": np.zeros_like(real.cond)}
    if real.cond[:, -1].mean() >= COVERED:
        kinds["oracle"] = real.cond
    for subject, name in ((ALL, ALL), (ONE, label(mag))):
        for kind, cond in kinds.items():
            if len(cond) < FEWEST or (subject, f"{label(mag)} {kind}", "fd_held_out") in known:
                continue
            features = judge(drawn(trained[name], stage, cond, mag, comparison))
            found = distance(truth, features, real.files, comparison.draws)
            told = f"{note}, {len(cond)} drawn in {comparison.steps} steps, {told_how}"
            yield _row(subject, f"{label(mag)} {kind}", "fd_held_out", found, told)


def generated(comparison: Comparison, mag: int) -> NDArray[np.float32]:
    """Conditions that the embedding diffusion model made up for a magnification."""
    tensors, scale = load_tables(Path(comparison.training.tables))
    tables, network = EmbeddingTables.from_tensors(tensors), runnable(Path(comparison.edm))
    cells = comparison.side // CELL
    return conditions(network, tables, scale, mag, cells, comparison.pictures, comparison.seed)[0]


def configuration(comparison: Any) -> str:
    """Eight hex digits of all that rows follow from, but for the places of files.

    Of what differs from a default alone, so that a new setting leaves older rows their name.
    """

    def kept(record: Any, default: Any) -> Any:
        if not isinstance(record, dict):
            return record
        named = {
            k: (v, default.get(k))
            for k, v in record.items()
            if not (k in PLACES and isinstance(v, str))
        }
        told = {k: kept(v, d) for k, (v, d) in named.items() if v != d}
        return {k: v for k, v in told.items() if v != {}}

    told = kept(to_record(comparison), to_record(type(comparison)()))
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"configuration {digest[:8]}"


def finished(path: Path, comparison: Comparison) -> set[Name]:
    """Rows of a file that were made of this configuration."""
    if not path.exists():
        return set()
    with path.open(newline="", encoding="utf-8") as lines:
        return {
            (row["subject"], row["setting"], row["metric"])
            for row in csv.DictReader(lines)
            if row["note"].endswith(configuration(comparison))
        }


def _budget(comparison: Comparison) -> str:
    return f"{comparison.training.rate.total} patches a model"


def _row(subject: str, setting: str, metric: str, found: Interval, note: str) -> Row:
    return Row(NAME, subject, setting, metric, found.value, "", found.low, found.high, 1, note)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(f"benchmarks.{NAME}", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    comparison = load_config(Comparison, given.config)
    path = RESULTS / f"{NAME}.csv"
    for row in compare(comparison, held_out(), known=finished(path, comparison)):
        write(NAME, [row])
        print(f"{row.subject} {row.setting}: {row.value:.1f}", flush=True)
    names = [label(m) for m in reversed(range(LEVELS))]
    print(path, plot(path, RESULTS / f"{NAME}.png", names, (ALL, ONE)))


if __name__ == "__main__":
    main()
