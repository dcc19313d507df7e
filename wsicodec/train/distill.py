"""Stage `distill`: the denoiser made to draw well in one step, against a critic.

Every estimate of the clean latent, from pure noise or from less, is judged in latent space given
the same parent and embeddings (adversarial diffusion distillation: Sauer et al. 2023), next to
the flow's own squared error. A flow that has seen little tissue draws coloured noise; the critic
makes texture of it.
"""

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
from wsicodec.train.data import generator
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining


@dataclass(frozen=True, slots=True)
class DistillTraining:
    """One run of the stage."""

    folder: str = "runs/distill"
    start: str = "runs/zoomldm"  # run whose averaged denoiser is the start
    zoomldm: ZoomTraining = field(default_factory=ZoomTraining)  # its data, parents and flow
    fool: float = 2.0  # length of the critic's pull over that of the squared error's
    flat: float = 20.0  # weight of the critic's gradient penalty
    nudge: float = 0.1  # deviation of what it is taken with, in latents' deviations
    pace: float = 4.0  # learning rate of the critic over the denoiser's
    critic: int = 64  # channels of the critic on the latent grid
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(betas=(0.5, 0.99), clip=10.0))
    rate: RateConfig = field(default_factory=RateConfig)


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
            tensors, _ = checkpoint.load(Path(config.start))
            zoomldm.load_state_dict(checkpoint.part(tensors, "average."))

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
        critic, count = self.model.critic, len(ours)
        known = self._known(batch)
        both = torch.cat([batch["latent"], ours.detach()])
        nudge = torch.cat([batch["nudge"], batch["nudge"]]) * self.config.nudge
        scores = critic(
            torch.cat([both, both + nudge]), *(k.repeat(4, *[1] * (k.ndim - 1)) for k in known)
        )
        of_real, of_ours = [s[:count] for s in scores], [s[count : 2 * count] for s in scores]
        flat = flatness_loss([s[: 2 * count] for s in scores], [s[2 * count :] for s in scores])
        judged = pairing_loss(of_real, of_ours) + self.config.flat * flat
        leaf = ours.detach().requires_grad_()
        critic.requires_grad_(requires_grad=False)
        fooled = pairing_loss(critic(leaf, *known), [s.detach() for s in of_real])
        critic.requires_grad_(requires_grad=True)
        to_truth = torch.autograd.grad(squared, ours, retain_graph=True)[0]
        to_fool = torch.autograd.grad(fooled, leaf)[0]
        # Their scales differ by what the critic has learned so far: weigh directions instead.
        balance = self.config.fool * to_truth.norm() / (to_fool.norm() + 1e-12)
        pull = (ours * (balance * to_fool)).sum()
        logs = {"critic": judged.detach(), "fooled": fooled.detach(), "flat": flat.detach()}
        return judged + squared + pull - pull.detach(), terms | logs

    def _known(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the critic knows of a window: parent with its flag, embeddings, magnification."""
        flag = batch["has_parent"][:, None, None, None]
        parent = F.pixel_unshuffle(batch["parent"], PARENT) * flag
        told = flag.expand(-1, 1, *parent.shape[2:])
        return torch.cat([parent, told], 1), batch["cond"], batch["mag"]

    def sheet(self) -> NDArray[np.uint8]:
        """As the flow's, in one step."""
        return self.flow.sheet(steps=1)
