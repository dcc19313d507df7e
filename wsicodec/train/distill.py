"""Stage `distill`: denoiser and pixel decoder made to draw tissue in one step, against a critic.

A flow that has seen little tissue draws blur in one step and coloured noise in several. Here every
estimate of the clean latent, most of them from pure noise, is decoded, and a critic that knows the
parent and the embeddings compares the pixels with real ones of the same place (adversarial
diffusion distillation: Sauer et al. 2023). The autoencoder's decoder learns along, so that it
answers for what is drawn; its encoder stays, and with it what a latent means.
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
from wsicodec.models.autoencoder import FACTOR, AutoencoderConfig, PixelShuffleAutoencoder
from wsicodec.models.blocks import channels_last
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.train import checkpoint
from wsicodec.train.adversary import Critic, flatness_loss, pairing_loss
from wsicodec.train.bundle import load_autoencoder, load_zoomldm
from wsicodec.train.data import generator
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.texture import texture_loss
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining

JUDGED = 16  # latent cells a side of what the critic sees, in the middle of a window
BORDER = 2  # cells decoded around it, whose padding nobody sees


@dataclass(frozen=True, slots=True)
class DistillTraining:
    """One run of the stage."""

    folder: str = "runs/distill"
    start: str = "runs/zoomldm"  # run whose averaged denoiser is the start
    zoomldm: ZoomTraining = field(default_factory=ZoomTraining)  # its data, parents and flow
    autoencoder: AutoencoderConfig = field(default_factory=lambda: AutoencoderConfig(16))
    squared: float = 0.2  # weight of the flow's squared error, in latents
    near: float = 1.0  # weight of the absolute error of 4 x 4 pixels' means
    agree: float = 3.0  # weight of how far neighbouring windows disagree where they meet
    texture: float = 0.1  # weight of the local energies of the pixels' octaves
    fool: float = 0.05  # weight of what the critic thinks of drawn pixels
    flat: float = 1.0  # weight of the critic's gradient penalty
    nudge: float = 0.03  # deviation of what it is taken with, in pixels of [-1, 1]
    pace: float = 3.0  # learning rate of the critic over the denoiser's
    decoder: float = 0.5  # learning rate of the pixel decoder over the denoiser's
    critic: int = 40  # channels of the critic at half the pixels
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(betas=(0.5, 0.99), clip=10.0))
    rate: RateConfig = field(default_factory=RateConfig)


class Trio(nn.Module):
    """Denoiser, autoencoder and critic, trained by one optimizer on losses that do not mix."""

    def __init__(
        self, zoomldm: ZoomLDM, autoencoder: PixelShuffleAutoencoder, critic: Critic
    ) -> None:
        super().__init__()
        self.zoomldm, self.autoencoder, self.critic = zoomldm, autoencoder, critic


class DistillStage:
    """Samples, losses and sheet of the stage."""

    def __init__(self, config: DistillTraining) -> None:
        self.config = config
        self.flow = ZoomStage(config.zoomldm, fresh=False, pixels=True)
        autoencoder = self.flow.autoencoder
        if autoencoder.config != config.autoencoder:
            raise ConfigError(
                f"expected the autoencoder of {config.zoomldm.autoencoder} to be "
                f"{config.autoencoder}, found {autoencoder.config}; name its sizes in the config"
            )
        autoencoder.decoder.requires_grad_()
        torch.manual_seed(config.loop.seed)
        critic = Critic(config.zoomldm.model.summarizer.embedding_width + 1, config.critic)
        self.model = channels_last(Trio(self.flow.model, autoencoder, critic))
        if not (Path(config.folder) / checkpoint.NAME).exists():
            self._start_from(Path(config.start))

    def _start_from(self, folder: Path) -> None:
        zoomldm, facts = load_zoomldm(folder)
        self.model.zoomldm.load_state_dict(zoomldm.state_dict())
        if "zoomldm" in facts["config"]:
            self.model.autoencoder.load_state_dict(load_autoencoder(folder)[0].state_dict())

    def paces(self) -> list[tuple[nn.Module, float]]:
        """The critic learns faster than what it judges, the decoder slower."""
        paces = self.config.pace, self.config.decoder
        return [
            (self.model.zoomldm, 1.0),
            (self.model.critic, paces[0]),
            (self.model.autoencoder, paces[1]),
        ]

    def sample(self, index: int) -> Sample:
        """As the flow's, a direction in which the critic should be flat, and a side to cut."""
        sample = dict(self.flow.sample(index))
        sample["first"] = np.array(index // self.config.loop.batch % 2)
        rng = generator(self.config.loop.seed + 1, index & (2**63 - 1))
        side = JUDGED * FACTOR
        return sample | {"nudge": rng.standard_normal((3, side, side), np.float32)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's loss on detached pixels, the others' on a frozen critic."""
        config = self.config
        squared, terms, latent = self.flow.squared_error(batch)
        ours, real = self._decoded(latent), self._real(batch)
        near = F.l1_loss(F.avg_pool2d(ours, 4), F.avg_pool2d(real, 4))
        texture = texture_loss(ours.mean(1, keepdim=True), real.mean(1, keepdim=True))
        agree = self._disagreement(batch, latent)
        loss = config.squared * squared + config.agree * agree
        loss = loss + config.near * near + config.texture * texture
        logs = {"near": near, "texture": texture, "agree": agree}
        terms |= {name: value.detach() for name, value in logs.items()}
        if config.fool == 0:
            return loss, terms
        judged, fooled, logs = self._critic(batch, ours, real)
        return loss + judged + config.fool * fooled, terms | logs

    def _disagreement(self, batch: dict[str, Tensor], latent: Tensor) -> Tensor:
        """How far a window and a part of it differ where the codec would cut the part.

        A tile ends HALO pixels before its window does; what its neighbour draws there saw more on
        that side and less on the other. The rows and columns up to as far again are compared.
        """
        cells, last = HALO // FACTOR, latent.shape[-1]
        first = bool(batch["first"][0])
        kept = slice(cells, last) if first else slice(0, last - cells)
        near = slice(cells, 2 * cells) if first else slice(-2 * cells, -cells)
        time = batch["t"][:, None, None, None]
        x = (1 - time) * batch["latent"] + time * batch["noise"]
        parent, cond = (_scaled(batch[name], kept, latent.shape[-1]) for name in ("parent", "cond"))
        told = batch["t"], batch["dt"], parent, batch["has_parent"], cond, batch["mag"]
        part, spread = self.model.zoomldm.estimate(x[..., kept, kept].contiguous(), *told)
        scale = spread.detach().square() + self.flow.config.flow.floor**2
        error = (part - latent[..., kept, kept]).square() / scale
        return (error[..., near, :].mean() + error[..., near].mean()) / 2

    def _decoded(self, latent: Tensor) -> Tensor:
        """Pixels of the middle of a window of latents."""
        first = (latent.shape[-1] - JUDGED) // 2 - BORDER
        inner = slice(first, first + JUDGED + 2 * BORDER)
        edge = slice(BORDER * FACTOR, -BORDER * FACTOR)
        return self.model.autoencoder.decode(latent[..., inner, inner])[..., edge, edge]

    def _real(self, batch: dict[str, Tensor]) -> Tensor:
        rgb = _middle(batch["rgb"], JUDGED * FACTOR).float().div(127.5).sub(1)
        return rgb.contiguous(memory_format=torch.channels_last)

    def _critic(
        self, batch: dict[str, Tensor], ours: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The critic's loss on detached pixels, that of `ours` on a frozen critic, and logs."""
        critic, count = self.model.critic, len(ours)
        known = self._known(batch)
        nudged = real + self.config.nudge * batch["nudge"]
        scores = critic(
            torch.cat([real, ours.detach(), nudged]),
            *(k.repeat(3, *[1] * (k.ndim - 1)) for k in known),
        )
        of_real, of_ours, of_nudged = zip(*(s.split(count) for s in scores), strict=True)
        flat = flatness_loss(of_real, of_nudged)
        judged = pairing_loss(of_real, of_ours) + self.config.flat * flat
        critic.requires_grad_(requires_grad=False)
        fooled = pairing_loss(critic(ours, *known), [s.detach() for s in of_real])
        critic.requires_grad_(requires_grad=True)
        logs = {"critic": judged.detach(), "fooled": fooled.detach(), "flat": flat.detach()}
        return judged, fooled, logs

    def _known(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the critic is told: parent, whether there is one, embeddings, magnification."""
        parent = _middle(batch["parent"], JUDGED * FACTOR // 2)
        cond = _middle(batch["cond"], JUDGED // 4)
        return parent, batch["has_parent"], cond, batch["mag"]

    def sheet(self) -> NDArray[np.uint8]:
        """As the flow's, in one step."""
        return self.flow.sheet(steps=1)


def _scaled(image: Tensor, part: slice, cells: int) -> Tensor:
    """The part of an image that lies over a part of `cells` latent cells, along both axes."""
    first, last, _ = part.indices(cells)
    side = image.shape[-1]
    place = slice(first * side // cells, last * side // cells)
    return image[..., place, place].contiguous()


def _middle(image: Tensor, side: int) -> Tensor:
    first = (image.shape[-1] - side) // 2
    return image[..., first : first + side, first : first + side]
