"""Ablations that need training: the decoder without parent augmentation, and without stains bent.

    python -m benchmarks.decoder_training INDEX.csv --config benchmarks/configs/ablations.json

The config fills an `Ablations`. Denoiser and renderer are trained three times by the stage
`distill`, from one start and for one small budget, and bundled each; then `standard` of the three
is measured as `benchmarks.decoder` does. What differs:

    all_augmentations         nothing
    no_parent_augmentation    parents are what the codec or the truth says: never drawn by an
                              earlier network nor sketched, blended, blurred or given noise
    no_stain_augmentation     variants of the slides' own colours, made and drawn anew beside the
                              others

Stopped, the command goes on where it stood. The shared start has seen all augmentations if it is
the shipped network's, so what is told is how much a network unlearns without them: a lower bound.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks.decoder import measure
from benchmarks.decoder_jobs import Setting
from benchmarks.decoder_variants import Variant
from benchmarks.record import RESULTS
from wsicodec.train import checkpoint
from wsicodec.train.bundle import BundlePlan
from wsicodec.train.bundle import write as write_bundle
from wsicodec.train.config import load_config, to_record
from wsicodec.train.distill import DistillStage, DistillTraining
from wsicodec.train.loop import Run
from wsicodec.train.prepare import Preparation, prepare
from wsicodec.train.redraw import Redrawing, redraw

ALL = "all_augmentations"
NO_PARENT = "no_parent_augmentation"
NO_STAIN = "no_stain_augmentation"


@dataclass(frozen=True, slots=True)
class Ablations:
    """What is trained three times, and what it is bundled with."""

    folder: str = "runs/ablations"  # of run folders, `NAME_run`, and bundles, `NAME`
    training: DistillTraining = field(default_factory=DistillTraining)
    bundle: BundlePlan = field(default_factory=BundlePlan)


def trainings(config: Ablations) -> Iterator[tuple[str, DistillTraining]]:
    """Names and configurations; they differ in nothing but what their names say."""
    base = config.training
    whole = base.zoomldm.parents
    true = dataclasses.replace(
        whole, drawn=0.0, drawn_anchor=0.0, blend=0.0, blur=0.0, noise=0.0, sketched=0.0
    )
    variants = base.zoomldm.variants
    own_colours = dataclasses.replace(
        variants,
        folder=f"{variants.folder}_own_colours",
        augment=dataclasses.replace(
            variants.augment, stain_gain=0.0, stain_bias=0.0, channel_gain=0.0
        ),
    )
    for name, parents, made in (
        (ALL, whole, variants),
        (NO_PARENT, true, variants),
        (NO_STAIN, whole, own_colours),
    ):
        flow = dataclasses.replace(base.zoomldm, parents=parents, variants=made)
        folder = str(Path(config.folder) / f"{name}_run")
        yield name, dataclasses.replace(base, folder=folder, zoomldm=flow)


def train(config: Ablations, name: str, training: DistillTraining) -> Path:
    """Make variants that lack, train to the end of the budget, and bundle; the bundle's folder."""
    flow = training.zoomldm
    prepare(
        Preparation(
            flow.autoencoder,
            config.bundle.embedder,
            config.bundle.embedder_prefix,
            flow.data,
            flow.variants,
        )
    )
    if name == NO_STAIN and not (Path(training.folder) / checkpoint.NAME).exists():
        redraw(Redrawing(training.start, flow.tables, data=flow.data, variants=flow.variants))
    stage = DistillStage(training)
    Run(stage, training.loop, training.rate, Path(training.folder), to_record(training)).train()
    plan = dataclasses.replace(
        config.bundle,
        folder=str(Path(config.folder) / name),
        name=name,
        zoomldm=training.folder,
        remarks=f"An ablation: {name.replace('_', ' ')}, {training.rate.total} patches.",
    )
    return write_bundle(plan)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.decoder_training", description=__doc__)
    parser.add_argument("index", type=Path)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS / "decoder_training.csv")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    config = load_config(Ablations, given.config)
    bundles = [str(train(config, name, training)) for name, training in trainings(config)]
    with tempfile.TemporaryDirectory(prefix="wsicodec-decoder-") as folder:
        setting = Setting(given.index, Path(folder))
        measure(setting, [Variant(b, "standard") for b in bundles], given.out, given.workers)


if __name__ == "__main__":
    main()
