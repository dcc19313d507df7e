"""Stage `distill`: denoiser and renderer made to draw tissue in one step, against a critic.

A flow that has seen little tissue draws blur in one step and coloured noise in several. Here every
estimate of the clean latent, most of them from pure noise, is rendered over its parent, and a
critic that knows the embeddings compares the pixels with real ones of the same place (adversarial
diffusion distillation: Sauer et al. 2023).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.diffusion.windows import HALO
from wsicodec.errors import ConfigError
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.blocks import channels_last
from wsicodec.models.renderer import Renderer, RendererConfig
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.train import checkpoint
from wsicodec.train.adversary import Critic, flatness_loss, matching_loss, pairing_loss
from wsicodec.train.bundle import load_renderer, load_zoomldm
from wsicodec.train.data import generator
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.texture import chroma, grey, texture_loss
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining, draw, render, sheet_of

BORDER = 16  # pixels a side of a window that nobody judges: they have too little around them


@dataclass(frozen=True, slots=True)
class DistillTraining:
    """One run of the stage."""

    folder: str = "runs/distill"
    start: str = "runs/zoomldm"  # run whose averaged networks are the start
    zoomldm: ZoomTraining = field(default_factory=ZoomTraining)  # its data, parents and flow
    renderer: RendererConfig = field(default_factory=RendererConfig)
    squared: float = 0.01  # weight of the flow's squared error, in latents
    close: float = 0.0  # weight of the pixels' absolute error
    near: float = 1.0  # weight of the absolute error of 4 x 4 pixels' means
    agree: float = 0.0  # weight of how far neighbouring windows disagree where they meet
    texture: float = 0.03  # weight of the local energies of the octaves of grey
    chroma: float = 0.12  # the same of differences of colours
    fool: float = 0.2  # weight of what the critic thinks of drawn pixels
    match: float = 2.0  # weight of how far it sees other things in them than in real ones
    flat: float = 30.0  # weight of the critic's gradient penalty
    nudge: float = 0.03  # deviation of what it is taken with, in pixels of [-1, 1]
    pace: float = 2.0  # learning rate of the critic over the drawers'
    critic: int = 40  # channels of the critic at half the pixels
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(betas=(0.5, 0.99), clip=10.0))
    rate: RateConfig = field(default_factory=RateConfig)


class Trio(nn.Module):
    """Denoiser, renderer and critic, trained by one optimizer on losses that do not mix."""

    def __init__(self, zoomldm: ZoomLDM, renderer: Renderer, critic: Critic) -> None:
        super().__init__()
        self.zoomldm, self.renderer, self.critic = zoomldm, renderer, critic


class DistillStage:
    """Samples, losses and sheet of the stage."""

    def __init__(self, config: DistillTraining) -> None:
        self.config = config
        self.flow = ZoomStage(config.zoomldm, fresh=False, pixels=True)
        held = self.flow.autoencoder.config.latent_channels
        if config.renderer.latent_channels != held:
            raise ConfigError(
                f"expected a renderer of {held} latent channels, as those of "
                f"{config.zoomldm.autoencoder}, got {config.renderer.latent_channels}"
            )
        torch.manual_seed(config.loop.seed)
        critic = Critic(config.zoomldm.model.summarizer.embedding_width + 1, config.critic)
        trio = Trio(self.flow.model, Renderer(config.renderer), critic)
        self.model = channels_last(trio)
        if not (Path(config.folder) / checkpoint.NAME).exists():
            self._start_from(Path(config.start))

    def _start_from(self, folder: Path) -> None:
        zoomldm, facts = load_zoomldm(folder)
        self.model.zoomldm.load_state_dict(zoomldm.state_dict())
        if "renderer" in facts["config"]:
            self.model.renderer.load_state_dict(load_renderer(folder)[0].state_dict())
            critic = checkpoint.part(checkpoint.load(folder)[0], "average.critic.")
            self.model.critic.load_state_dict(critic)

    def paces(self) -> list[tuple[nn.Module, float]]:
        """The critic learns faster than what it judges."""
        return [
            (self.model.zoomldm, 1.0),
            (self.model.renderer, 1.0),
            (self.model.critic, self.config.pace),
        ]

    def sample(self, index: int) -> Sample:
        """As the flow's, a direction in which the critic should be flat, and a side to cut."""
        sample = dict(self.flow.sample(index))
        sample["first"] = np.array(index // self.config.loop.batch % 2)
        rng = generator(self.config.loop.seed + 1, index & (2**63 - 1))
        shape = _judged(torch.from_numpy(sample["rgb"])).shape
        return sample | {"nudge": rng.standard_normal(shape, np.float32)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss on detached pixels, the others' on a frozen critic."""
        config = self.config
        squared, terms, latent = self.flow.squared_error(batch)
        whole = render(self.model.renderer, batch, latent)
        ours, real = _judged(whole), self._real(batch)
        close = F.l1_loss(ours, real)
        near = F.l1_loss(F.avg_pool2d(ours, 4), F.avg_pool2d(real, 4))
        logs = {"close": close, "near": near}
        loss = config.squared * squared + config.near * near + config.close * close
        if config.agree:
            logs["agree"] = self._disagreement(batch, whole)
            loss = loss + config.agree * logs["agree"]
        if config.texture:
            logs["texture"] = texture_loss(grey(ours), grey(real))
            loss = loss + config.texture * logs["texture"]
        if config.chroma:
            logs["chroma"] = texture_loss(chroma(ours), chroma(real))
            loss = loss + config.chroma * logs["chroma"]
        terms |= {name: value.detach() for name, value in logs.items()}
        if config.fool == 0:
            return loss, terms
        judged, fooled, matched, scores = self._critic(batch, ours, real)
        loss = loss + judged + config.fool * fooled + config.match * matched
        return loss, terms | scores

    def _disagreement(self, batch: dict[str, Tensor], whole: Tensor) -> Tensor:
        """How far a window and a part of it differ where the codec would cut the part, in pixels.

        A tile ends HALO pixels before its window does; what its neighbour draws there saw more on
        that side and less on the other. The rows and columns up to as far again are compared.
        """
        cells, last = HALO // FACTOR, batch["latent"].shape[-1]
        first = bool(batch["first"][0])
        kept = slice(cells, last) if first else slice(0, last - cells)
        near = slice(HALO, 2 * HALO) if first else slice(-2 * HALO, -HALO)
        time = batch["t"][:, None, None, None]
        x = (1 - time) * batch["latent"] + time * batch["noise"]
        parent, cond = (_scaled(batch[name], kept, last) for name in ("parent", "cond"))
        told = parent, batch["has_parent"], cond, batch["mag"]
        latent = self.model.zoomldm(x[..., kept, kept].contiguous(), batch["t"], batch["dt"], *told)
        part = self.model.renderer(latent, parent, batch["has_parent"], batch["mag"])
        other = _scaled(whole, kept, last)
        rows = F.l1_loss(part[..., near, :], other[..., near, :])
        return (rows + F.l1_loss(part[..., near], other[..., near])) / 2

    def _real(self, batch: dict[str, Tensor]) -> Tensor:
        return _pixels(_judged(batch["rgb"])).contiguous(memory_format=torch.channels_last)

    def _critic(
        self, batch: dict[str, Tensor], ours: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """The critic's loss on detached pixels, two of `ours` on a frozen critic, and logs."""
        critic, count = self.model.critic, len(ours)
        known = self._known(batch)
        some = (count + 1) // 2  # of either kind: the penalty on half the samples says as much
        drawn = ours.detach()
        nudged = torch.cat([real[:some], drawn[some:]]) + self.config.nudge * batch["nudge"]
        every = torch.cat([real, drawn, nudged])
        seen = critic.features(every, *(torch.cat([k, k, k]) for k in known))
        of_real, of_ours, of_nudged = zip(
            *(s.split(count) for s in critic.scores(seen)), strict=True
        )
        plain = [torch.cat([r[:some], o[some:]]) for r, o in zip(of_real, of_ours, strict=True)]
        flat = flatness_loss(plain, of_nudged)
        judged = pairing_loss(of_real, of_ours) + self.config.flat * flat
        critic.requires_grad_(requires_grad=False)
        found = critic.features(ours, *known)
        fooled = pairing_loss(critic.scores(found), [s.detach() for s in of_real])
        matched = matching_loss(found, [s[:count].detach() for s in seen])
        critic.requires_grad_(requires_grad=True)
        logs = {"critic": judged, "fooled": fooled, "matched": matched, "flat": flat}
        return judged, fooled, matched, {k: v.detach() for k, v in logs.items()}

    def _known(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What the critic is told: embeddings at its coarsest grid, and magnification."""
        cells = batch["rgb"].shape[-1] // FACTOR
        cond = F.interpolate(batch["cond"], (cells, cells), mode="nearest")
        edge = BORDER // FACTOR
        return cond[..., edge:-edge, edge:-edge], batch["mag"]

    def sheet(self) -> NDArray[np.uint8]:
        """Per column: the parent enlarged, what is drawn in one step, the truth."""
        batch = self.flow.sheet_batch()
        drawn = render(self.model.renderer, batch, draw(self.model.zoomldm, batch, 1))
        return sheet_of(batch["parent"], drawn, _pixels(batch["rgb"]))


def _scaled(image: Tensor, part: slice, cells: int) -> Tensor:
    """The part of an image that lies over a part of `cells` latent cells, along both axes."""
    first, last, _ = part.indices(cells)
    side = image.shape[-1]
    place = slice(first * side // cells, last * side // cells)
    return image[..., place, place].contiguous()


def _judged(image: Tensor) -> Tensor:
    return image[..., BORDER:-BORDER, BORDER:-BORDER]


def _pixels(rgb: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return rgb.float().div(127.5).sub(1)
