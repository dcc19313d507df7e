"""Stage `vq`: the published families' autoencoder, VQ-f4, on one's own tissue.

    rgb -> encoder -> z -> nearest code, gradients straight through -> decoder -> rgb

Its loss is VQGAN's without what needs other people's weights or a second network: absolute error,
codes drawn to latents, latents drawn to their codes (van den Oord et al. 2017, eq. 3; Esser et al.
2021, eq. 4), and octave energies in the place of a perceptual distance.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.models.published.vq import VqAutoencoder, VqConfig
from wsicodec.train import checkpoint
from wsicodec.train.augment import AugmentConfig
from wsicodec.train.autoencoder import draw_crop, octave_loss, sheet_of_crops
from wsicodec.train.data import DataConfig, Sampler, generator, load_places
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample

WEIGHTS = "vq_f4.safetensors"  # in the run's folder, under the published names
START_CROPS = 16


@dataclass(frozen=True, slots=True)
class VqLossConfig:
    """Weights of the loss terms, next to the absolute error's 1."""

    codebook: float = 1.0  # codes to latents
    commitment: float = 0.25  # latents to codes
    octave: float = 0.05  # log ratio of octave energies


@dataclass(frozen=True, slots=True)
class VqTraining:
    """One run of the stage."""

    folder: str = "runs/vq_f4"
    side: int = 128  # pixels of a crop
    model: VqConfig = field(default_factory=VqConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: VqLossConfig = field(default_factory=VqLossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    rate: RateConfig = field(default_factory=RateConfig)


class VqStage:
    """Samples, loss and sheet of the stage."""

    def __init__(self, config: VqTraining) -> None:
        self.config = config
        self.sampler = Sampler(load_places(config.data), config.data, config.side * 5 // 4)
        torch.manual_seed(config.loop.seed)
        self.model = VqAutoencoder(config.model)
        if not (Path(config.folder) / checkpoint.NAME).exists():
            self._start_codes()

    @torch.no_grad()
    def _start_codes(self) -> None:
        """Every code begins as a latent of real tissue: none is too far away to be ever nearest."""
        crops = np.stack([self.sample(-1 - i)["rgb"] for i in range(START_CROPS)])
        latents = self.model.encode(_pixels(torch.from_numpy(crops))).permute(0, 2, 3, 1)
        cells, codes = latents.flatten(0, 2), self.model.quantize.embedding.weight
        chosen = torch.randint(len(cells), (len(codes),))
        codes.copy_(cells[chosen] + 1e-3 * cells.std() * torch.randn_like(codes))

    def sample(self, index: int) -> Sample:
        """One crop `rgb` (3, side, side) uint8."""
        rng = generator(self.config.loop.seed, index & (2**63 - 1))
        return {"rgb": draw_crop(rng, self.sampler, self.config.side, self.config.augment)}

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Absolute error, octave energies, and the two terms that tie codes and latents."""
        weights, model = self.config.loss, self.model
        rgb = _pixels(batch["rgb"])
        latent = model.encode(rgb)
        indices = model.quantize.nearest(latent.detach())
        coded = model.quantize.embedding(indices).permute(0, 3, 1, 2)
        straight = latent + (coded - latent).detach()
        ours = model.decoder(model.post_quant_conv(straight))
        codebook = F.mse_loss(coded, latent.detach())
        commitment = F.mse_loss(latent, coded.detach())
        texture = octave_loss(ours, rgb)
        loss = F.l1_loss(ours, rgb) + weights.octave * texture
        loss = loss + weights.codebook * codebook + weights.commitment * commitment
        psnr = -10 * torch.log10((ours - rgb).square().mean((1, 2, 3)) / 4).mean()
        terms = {"psnr": psnr, "texture": texture, "codebook": codebook}
        terms |= {"codes": torch.tensor(float(len(indices.unique())))}
        return loss, {name: value.detach() for name, value in terms.items()}

    def sheet(self) -> NDArray[np.uint8]:
        """Eight crops above their reconstructions."""
        return sheet_of_crops(self.model, [self.sample(2**40 + i)["rgb"] for i in range(8)])


def _pixels(rgb: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return rgb.float().div(127.5).sub(1)


def publish(config: VqTraining) -> Path:
    """Write the averaged weights under the published names, for `wsicodec model import`."""
    from safetensors.torch import save_file

    tensors, _ = checkpoint.load(Path(config.folder))
    path = Path(config.folder) / WEIGHTS
    save_file(checkpoint.part(tensors, "average."), path, {"format": "pt"})
    return path
