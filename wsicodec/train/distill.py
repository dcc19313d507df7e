"""Stage `distill`: the denoiser made to draw well in one step, against a critic.

Every estimate of the clean latent, from pure noise or from less, is judged in latent space given
the same parent and embeddings (adversarial diffusion distillation: Sauer et al. 2023), next to
the flow's own squared error. A flow that has seen little tissue draws coloured noise; the critic
makes texture of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.models.blocks import channels_last
from wsicodec.models.zoomldm import PARENT, ZoomLDM
from wsicodec.train import checkpoint
from wsicodec.train.adversary import Critic, flatness_loss, pairing_loss
from wsicodec.train.bundle import load_zoomldm
from wsicodec.train.data import generator
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining

CENTRE = 12  # latent cells a side that are decoded to see their texture
CONTRAST = 8.0  # brings the octaves of grey tissue to about unit deviation
FAINT = 0.03  # what makes glass no worse than it is


Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class DistillTraining:
    """One run of the stage."""

    folder: str = "runs/distill"
    start: str = "runs/zoomldm"  # run whose averaged denoiser is the start
    zoomldm: ZoomTraining = field(default_factory=ZoomTraining)  # its data, parents and flow
    texture: float = 1.0  # weight of the local energies of the latents' octaves
    drawn: float = 1.0  # weight of the same of decoded pixels
    kept: tuple[float, ...] = (0.95, 0.76, 0.62, 0.5, 0.5, 0.5, 0.5, 0.5)
    # energy of the finest octave that the autoencoder itself keeps, by magnification index
    score: float = 2.0  # weight of the energy score of draws from pure noise
    drawn_score: float = 1.0  # weight of decoded pixels in it
    squared: float = 1.0  # weight of the flow's squared error
    coarse: float = 0.5  # weight of the error of local means
    fool: float = 1.0  # length of the critic's pull over that of the other losses; 0: no critic
    flat: float = 20.0  # weight of the critic's gradient penalty
    nudge: float = 0.1  # deviation of what it is taken with, in latents' deviations
    pace: float = 4.0  # learning rate of the critic over the denoiser's
    critic: int = 64  # channels of the critic on the latent grid
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(betas=(0.5, 0.99), clip=10.0))
    rate: RateConfig = field(default_factory=RateConfig)


def energy_score(distance: Distance, one: Tensor, other: Tensor, real: Tensor) -> Tensor:
    """Energy score of two draws of a distribution (Gneiting & Raftery 2007, eq. 22), fair for two.

    A proper score: least where the draws are distributed as the truth is, given what was known.
    Texture that differs from draw to draw costs nothing, texture that is always the same does.
    """
    return (distance(one, real) + distance(other, real) - distance(one, other)) / 2


def latent_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of latents over all channels of 1 and of 2 x 2 cells, and of 4 x 4 of one."""
    error = (a - b).square()
    cell = error.mean(1, keepdim=True)
    parts = (cell, F.avg_pool2d(cell, 2, 1), F.avg_pool2d(error, 4, 2))
    return torch.stack([(p + 1e-4).sqrt().mean() for p in parts]).mean()


def pixel_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean distance of 2 x 2 and 8 x 8 pixels with their colours, across the cells' borders too."""
    error = (a - b).square().mean(1, keepdim=True)
    parts = (F.avg_pool2d(error, 2, 1), F.avg_pool2d(error, 8, 4))
    return torch.stack([(p + 1e-4).sqrt().mean() for p in parts]).mean()


def coarse_loss(ours: Tensor, real: Tensor, side: int = 4) -> Tensor:
    """Squared error of means over `side` x `side` cells, in units of a white error's.

    A latent that is off alike everywhere decodes to a lattice; free texture averages out.
    """
    return F.avg_pool2d(ours - real, side).square().mean() * side**2


def texture_loss(
    ours: Tensor, real: Tensor, octaves: int, pool: int, gain: Tensor | None = None
) -> Tensor:
    """How far local energies and magnitudes of octaves are off, as mean absolute log ratio.

    The mean of a posterior has too little of both, a sample of a poor one too little magnitude for
    its energy: tissue is sparse, noise is not. Nothing here asks for detail at the right place.

    Args:
        ours: (n, c, h, w), of about unit deviation.
        real: what it should look like.
        octaves: how many halvings.
        pool: side in cells of an octave over which an energy is taken; the whole is taken as well.
        gain: (n,) what the finest octave of `real` is multiplied by first.
    """
    terms = []
    for octave in range(octaves):
        bands, coarser = [], []
        for image in (ours, real):
            coarse = F.avg_pool2d(image, 2)
            bands.append(image - F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
            coarser.append(coarse)
        if gain is not None and octave == 0:
            bands[1] = bands[1] * gain[:, None, None, None]
        for measure in (torch.square, torch.abs):
            mine, theirs = (measure(b) for b in bands)
            for side in (min(pool, mine.shape[-1]), mine.shape[-1]):
                near, wanted = F.avg_pool2d(mine, side), F.avg_pool2d(theirs, side)
                terms.append((torch.log(near + FAINT) - torch.log(wanted + FAINT)).abs().mean())
        ours, real = coarser
    return torch.stack(terms).mean()


class Pair(nn.Module):
    """Denoiser and critic, trained by one optimizer on losses that do not mix."""

    def __init__(self, zoomldm: ZoomLDM, critic: Critic) -> None:
        super().__init__()
        self.zoomldm, self.critic = zoomldm, critic


class DistillStage:
    """Samples, losses and sheet of the stage."""

    def __init__(self, config: DistillTraining) -> None:
        self.config = config
        self.flow = ZoomStage(config.zoomldm, fresh=False)
        zoomldm = self.flow.model
        torch.manual_seed(config.loop.seed)
        cond = config.zoomldm.model.summarizer.embedding_width + 1
        critic = Critic(config.zoomldm.model.unet, cond, config.critic)
        self.model = channels_last(Pair(zoomldm, critic))
        if not (Path(config.folder) / checkpoint.NAME).exists():
            zoomldm.load_state_dict(load_zoomldm(Path(config.start))[0].state_dict())

    def paces(self) -> list[tuple[nn.Module, float]]:
        """The critic learns faster than what it judges."""
        return [(self.model.zoomldm, 1.0), (self.model.critic, self.config.pace)]

    def sample(self, index: int) -> Sample:
        """As the flow's, and a direction in which the critic should be flat."""
        sample = dict(self.flow.sample(index))
        rng = generator(self.config.loop.seed + 1, index & (2**63 - 1))
        return sample | {"nudge": rng.standard_normal(sample["latent"].shape, np.float32)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss on detached estimates, the denoiser's on a frozen critic."""
        squared, terms, ours = self.flow.squared_error(batch)
        texture = texture_loss(ours, batch["latent"], octaves=2, pool=4)
        drawn = squared.new_zeros(())
        if self.config.drawn > 0:
            drawn = self._drawn_texture(ours, batch["latent"], batch["mag"])
        coarse = coarse_loss(ours, batch["latent"])
        loss = (
            self.config.squared * squared
            + self.config.texture * texture
            + self.config.drawn * drawn
        )
        loss = loss + self.config.coarse * coarse
        terms |= {"texture": texture.detach(), "drawn": drawn.detach(), "coarse": coarse.detach()}
        if self.config.score > 0:
            score = self._score(batch, ours)
            loss, terms = loss + self.config.score * score, terms | {"score": score.detach()}
        if self.config.fool == 0:
            return loss, terms
        judged, pull, logs = self._critic(batch, ours, loss)
        return loss + judged + pull - pull.detach(), terms | logs

    def _score(self, batch: dict[str, Tensor], ours: Tensor) -> Tensor:
        """The energy score of draws from pure noise, in units of the latents' deviations."""
        pure = batch["t"] == 1
        if not pure.any():
            return ours.new_zeros(())
        told = [batch[k][pure] for k in ("t", "dt", "parent", "has_parent", "cond", "mag")]
        other, spread = self.model.zoomldm.estimate(batch["nudge"][pure], *told)
        scale = (spread.detach().square() + self.flow.config.flow.floor**2).rsqrt()
        three = ours[pure], other, batch["latent"][pure]
        latents = energy_score(latent_distance, *(z * scale for z in three))
        if self.config.drawn_score == 0:
            return latents
        pixels = energy_score(pixel_distance, *(self._centre(z) for z in three))
        return latents + self.config.drawn_score * pixels

    def _centre(self, latent: Tensor) -> Tensor:
        """Decoded pixels around each window's centre, of about unit deviation."""
        first = (latent.shape[-1] - CENTRE) // 2
        inner = slice(first, first + CENTRE)
        return self.flow.autoencoder.decode(latent[..., inner, inner]) * CONTRAST

    def _drawn_texture(self, ours: Tensor, real: Tensor, mag: Tensor) -> Tensor:
        """The texture of decoded grey pixels around each window's centre."""
        images = [self._centre(z).mean(1, keepdim=True) for z in (ours, real)]
        kept = torch.tensor(self.config.kept)[mag]
        return texture_loss(images[0], images[1], octaves=3, pool=8, gain=kept.rsqrt())

    def _critic(
        self, batch: dict[str, Tensor], ours: Tensor, loss: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The critic's loss, a term whose gradient pulls `ours` where it fools it, and logs."""
        critic, count = self.model.critic, len(ours)
        known = self._known(batch)
        real = batch["latent"]
        nudged = real + self.config.nudge * batch["nudge"]
        scores = critic(
            torch.cat([real, ours.detach(), nudged]),
            *(k.repeat(3, *[1] * (k.ndim - 1)) for k in known),
        )
        of_real, of_ours, of_nudged = zip(*(s.split(count) for s in scores), strict=True)
        flat = flatness_loss(of_real, of_nudged)
        judged = pairing_loss(of_real, of_ours) + self.config.flat * flat
        leaf = ours.detach().requires_grad_()
        critic.requires_grad_(requires_grad=False)
        fooled = pairing_loss(critic(leaf, *known), [s.detach() for s in of_real])
        critic.requires_grad_(requires_grad=True)
        to_truth = torch.autograd.grad(loss, ours, retain_graph=True)[0]
        to_fool = torch.autograd.grad(fooled, leaf)[0]
        # Their scales differ by what the critic has learned so far: weigh directions instead.
        balance = self.config.fool * to_truth.norm() / (to_fool.norm() + 1e-12)
        pull = (ours * (balance * to_fool)).sum()
        logs = {"critic": judged.detach(), "fooled": fooled.detach(), "flat": flat.detach()}
        return judged, pull, logs

    def _known(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the critic knows of a window: parent with its flag, embeddings, magnification."""
        flag = batch["has_parent"][:, None, None, None]
        parent = F.pixel_unshuffle(batch["parent"], PARENT) * flag
        told = flag.expand(-1, 1, *parent.shape[2:])
        return torch.cat([parent, told], 1), batch["cond"], batch["mag"]

    def sheet(self) -> NDArray[np.uint8]:
        """As the flow's, in one step."""
        return self.flow.sheet(steps=1)
