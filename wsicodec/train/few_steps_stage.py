"""Stage `few_steps`: a trained flow made exact in few large steps, in latents, without a critic.

It draws what the flow would in many steps, no better; `distill` may start from a run of it.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.models.blocks import channels_last
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_zoomldm
from wsicodec.train.data import generator
from wsicodec.train.few_steps import (
    Estimate,
    between,
    consistency_target,
    mean_flow_target,
    pseudo_huber,
    shortcut_target,
)
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining

FLOW, SHORTCUT, CONSISTENCY, MEAN_FLOW = "flow", "shortcut", "consistency", "mean_flow"
METHODS = (FLOW, SHORTCUT, CONSISTENCY, MEAN_FLOW)
LADDER = (1.0, 0.5, 0.25)  # sizes of steps that are made of two halves, as samplers take them
SMALLEST = 0.125  # size of a step that the flow itself is trusted with


@dataclass(frozen=True, slots=True)
class FewStepsTraining:
    """One run of the stage."""

    folder: str = "runs/few_steps"
    start: str = "runs/zoomldm"  # run whose averaged denoiser is the start
    method: str = SHORTCUT  # or consistency, or mean_flow; flow goes on as before, to compare with
    share: float = 0.5  # of samples with large steps, for shortcut and mean_flow
    gap: float = 0.125  # of time between the two points of consistency
    life: float = 80.0  # half-life of the average that targets come from, patches
    zoomldm: ZoomTraining = field(default_factory=ZoomTraining)  # its data, parents and flow
    loop: LoopConfig = field(default_factory=LoopConfig)
    rate: RateConfig = field(default_factory=RateConfig)


class Followed(nn.Module):
    """A denoiser and its moving average, which sets the targets."""

    def __init__(self, zoomldm: ZoomLDM) -> None:
        super().__init__()
        self.zoomldm = zoomldm
        self.slow = ZoomLDM(zoomldm.config).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, keep: float) -> None:
        """Move the average, of which a share `keep` stays."""
        for mine, theirs in zip(self.slow.parameters(), self.zoomldm.parameters(), strict=True):
            mine.lerp_(theirs, 1 - keep)


class FewStepsStage:
    """Samples, loss and sheet of the stage."""

    def __init__(self, config: FewStepsTraining) -> None:
        if config.method not in METHODS:
            raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {config.method!r}")
        self.config = config
        self.flow = ZoomStage(config.zoomldm, fresh=False)
        self.model = channels_last(Followed(self.flow.model))
        if not (Path(config.folder) / checkpoint.NAME).exists():
            weights = load_zoomldm(Path(config.start))[0].state_dict()
            self.model.zoomldm.load_state_dict(weights)
            self.model.slow.load_state_dict(weights)

    def sample(self, index: int) -> Sample:
        """As the flow's; some with a large step at a time where samplers take it."""
        config = self.config
        sample = dict(self.flow.sample(index)) | {"index": np.array(index)}
        if config.method not in (SHORTCUT, MEAN_FLOW):
            return sample
        rng = generator(config.loop.seed + 1, index & (2**63 - 1))
        large, step = rng.random() < config.share, float(rng.choice(LADDER))
        t = step * int(rng.integers(1, round(1 / step) + 1)) if large else float(sample["t"])
        step = step if large else min(t, SMALLEST)
        return sample | {"t": np.array(t, np.float32), "dt": np.array(step, np.float32)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Let the average follow, then compare with what it says."""
        config = self.config
        if int(batch["index"].min()) > 0:
            self.model.follow(0.5 ** (len(batch["index"]) / config.life))
        if config.method == FLOW:
            return self.flow.loss(batch)
        wanted = self.target(batch)
        weighted, plain, _ = self.flow.errors(batch, wanted)
        logs = {"error": plain.mean(), "shift": (wanted - batch["latent"]).square().mean()}
        bounded = config.method in (CONSISTENCY, MEAN_FLOW)
        return pseudo_huber(weighted) if bounded else weighted.mean(), logs

    def target(self, batch: dict[str, Tensor]) -> Tensor:
        """What the batch's estimates are asked for (n, c, h, w), without a gradient.

        The latents themselves where the step is small, but for consistency.
        """
        if self.config.method == CONSISTENCY:
            z, noise, t, step = (batch[k] for k in ("latent", "noise", "t", "dt"))
            return consistency_target(self._slow(batch), z, noise, t, step, self.config.gap)
        large = batch["dt"] > SMALLEST
        wanted = batch["latent"].clone()
        if large.any():
            some = {k: v[large] for k, v in batch.items()}
            wanted[large] = self._large_target(some)
        return wanted

    def _large_target(self, batch: dict[str, Tensor]) -> Tensor:
        z, noise, t, step = (batch[k] for k in ("latent", "noise", "t", "dt"))
        if self.config.method == SHORTCUT:
            return shortcut_target(self._slow(batch), between(z, noise, t), t, step)
        return mean_flow_target(self._slow(batch), z, noise, t, step)

    def _slow(self, batch: dict[str, Tensor]) -> Estimate:
        told = {k: batch[k] for k in ("parent", "has_parent", "cond", "mag")}
        return partial(self.model.slow, **told)

    def sheet(self) -> NDArray[np.uint8]:
        """As the flow's, drawn in one step."""
        return self.flow.sheet(steps=1)
