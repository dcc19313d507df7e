"""Recipes of `benchmarks.few_steps`: what is trained for how long, and what then draws."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from wsicodec.models.autoencoder import PixelShuffleAutoencoder
from wsicodec.models.renderer import Renderer, RendererConfig
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_autoencoder, load_renderer, load_zoomldm
from wsicodec.train.chain import Networks
from wsicodec.train.chain_eval import ChainMeasurement
from wsicodec.train.config import to_record
from wsicodec.train.distill import DistillStage, DistillTraining
from wsicodec.train.few_steps_stage import (
    CONSISTENCY,
    FLOW,
    MEAN_FLOW,
    SHORTCUT,
    FewStepsStage,
    FewStepsTraining,
)
from wsicodec.train.loop import Run

ADVERSARIAL = "adversarial"
UNTOUCHED = "flow untouched"
RECIPES = {  # what each half of the time goes to
    UNTOUCHED: (),
    "adversarial": (ADVERSARIAL, ADVERSARIAL),
    "shortcut": (SHORTCUT, SHORTCUT),
    "shortcut, then adversarial": (SHORTCUT, ADVERSARIAL),
    "consistency": (CONSISTENCY, CONSISTENCY),
    "flow trained on": (FLOW, FLOW),
    "consistency, then adversarial": (CONSISTENCY, ADVERSARIAL),
    "mean flow": (MEAN_FLOW, MEAN_FLOW),
}
RENDERER, DECODER = "renderer", "autoencoder"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is trained, for how long, and what is measured."""

    folder: str = "runs/few_steps_compared"  # of a run folder for each course of halves
    training: FewStepsTraining = field(default_factory=FewStepsTraining)
    finish: DistillTraining = field(default_factory=DistillTraining)
    # Fields and steps; its run is the one whose renderer, and critic, all begin with.
    chain: ChainMeasurement = field(default_factory=lambda: ChainMeasurement(fields=12))
    seconds: float = 300.0  # of one core, that a recipe trains
    draws: int = 40  # of the bootstrap


def train(comparison: Comparison, halves: Sequence[str]) -> Path:
    """Run a course of halves, or take what is there of it; the folder of its last run."""
    if not halves:
        return Path(comparison.training.start)
    folder = Path(comparison.folder) / "_".join((*halves, f"{comparison.seconds:g}"))
    own = len(list(takewhile(lambda half: half == halves[-1], reversed(halves))))
    begun, due = (folder / checkpoint.NAME).exists(), own * comparison.seconds / 2
    if begun and checkpoint.load(folder)[1]["seconds"] >= due:
        return folder
    before = train(comparison, halves[:-1])
    if own > 1 and not begun:
        checkpoint.save(folder, *checkpoint.load(before))
    train_until(run_of(comparison, halves[-1], before, folder), due)
    return folder


def run_of(comparison: Comparison, method: str, before: Path, folder: Path) -> Run:
    """A run in `folder` that starts from the networks of another, unless it has begun."""
    stage: DistillStage | FewStepsStage
    config: DistillTraining | FewStepsTraining
    if method == ADVERSARIAL:
        start = folder / "start"
        join(before, Path(comparison.chain.zoomldm), start)
        config = dataclasses.replace(comparison.finish, folder=str(folder), start=str(start))
        stage = DistillStage(config)
    else:
        whole = dataclasses.replace(comparison.training, folder=str(folder), start=str(before))
        config = dataclasses.replace(whole, method=method)
        stage = FewStepsStage(config)
    return Run(stage, config.loop, config.rate, folder, to_record(config))


def join(denoiser: Path, drawer: Path, folder: Path) -> None:
    """A start for `distill`: the denoiser of one run, the renderer and the critic of another."""
    zoomldm = load_zoomldm(denoiser)[0]
    tensors, facts = checkpoint.load(drawer)
    kept = {
        k: v for k, v in tensors.items() if k.startswith(("average.renderer.", "average.critic."))
    }
    kept |= {f"average.zoomldm.{k}": v for k, v in zoomldm.state_dict().items()}
    config = {"renderer": facts["config"]["renderer"]}
    config["zoomldm"] = {"model": zoomldm.config.to_json()}
    checkpoint.save(folder, kept, {"seen": 0, "seconds": 0.0, "config": config})


def train_until(run: Run, seconds: float) -> None:
    """Step until the run has had so many seconds of this process's cores, saved now and then."""
    before, started = run.seconds, time.process_time()
    saved = started
    while run.seconds < seconds:
        logs = run.step()
        now = time.process_time()
        run.seconds = before + now - started
        run.log(logs)
        if now - saved > run.loop.save_seconds:
            run.save()
            saved = now
    run.save()


def trained(comparison: Comparison, halves: Sequence[str]) -> dict[str, Any]:
    """Patches and seconds of a course of halves that has been run."""
    runs = [
        halves[: i + 1] for i, half in enumerate(halves) if (*halves, "")[i + 1] != half
    ]  # a run goes on through halves of one kind
    facts = [checkpoint.load(train(comparison, course))[1] for course in runs]
    return {
        "patches": sum(int(f["seen"]) for f in facts),
        "training_seconds": sum(float(f["seconds"]) for f in facts),
    }


class Decoder(Renderer):
    """An autoencoder's decoder in a renderer's place; it looks at no parent."""

    def __init__(self, autoencoder: PixelShuffleAutoencoder) -> None:
        super().__init__(RendererConfig(autoencoder.config.latent_channels))
        self.autoencoder = autoencoder

    def forward(
        self,
        latent: Tensor,
        parent: Tensor,  # noqa: ARG002
        has_parent: Tensor,  # noqa: ARG002
        mag: Tensor,  # noqa: ARG002
    ) -> Tensor:
        """Pixels (n, 3, 8h, 8w) around [-1, 1]."""
        return self.autoencoder.decode(latent)


def drawers(comparison: Comparison, folder: Path, halves: Sequence[str]) -> dict[str, Networks]:
    """Denoisers by what makes pixels of their latents, the renderer last."""
    zoomldm = load_zoomldm(folder)[0]
    if ADVERSARIAL in halves:
        return {RENDERER: Networks(zoomldm, load_renderer(folder)[0])}
    decoder = Decoder(load_autoencoder(Path(comparison.training.zoomldm.autoencoder))[0])
    renderer = load_renderer(Path(comparison.chain.zoomldm))[0]
    return {DECODER: Networks(zoomldm, decoder), RENDERER: Networks(zoomldm, renderer)}
