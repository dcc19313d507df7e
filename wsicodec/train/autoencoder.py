"""Stage `autoencoder`: real tissue through few channels and back."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.models.autoencoder import FACTOR, AutoencoderConfig, PixelShuffleAutoencoder
from wsicodec.models.blocks import channels_last
from wsicodec.models.octaves import octaves
from wsicodec.train import augment
from wsicodec.train.augment import AugmentConfig
from wsicodec.train.data import DataConfig, Sampler, generator, load_places
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample


@dataclass(frozen=True, slots=True)
class LossConfig:
    """Weights of the autoencoder's loss terms."""

    octave: float = 0.05  # of the log ratio of octave energies
    latent: float = 0.02  # of the latents' distance from mean 0 and variance 1
    noise: float = 0.1  # largest deviation of what is added to the latents
    squared: float = 1.0  # of the squared error, next to the absolute one


@dataclass(frozen=True, slots=True)
class AutoencoderTraining:
    """One run of the stage."""

    folder: str = "runs/autoencoder"
    side: int = 128  # pixels of a crop
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    rate: RateConfig = field(default_factory=RateConfig)


def octave_loss(ours: Tensor, true: Tensor) -> Tensor:
    """Mean absolute log ratio of local octave energies: penalises lost and added texture alike."""
    total = ours.new_zeros(())
    for mine, theirs in zip(octaves(ours), octaves(true), strict=True):
        pool = 8
        energy = F.avg_pool2d(mine.square().mean(1, keepdim=True), pool)
        wanted = F.avg_pool2d(theirs.square().mean(1, keepdim=True), pool)
        total = total + (torch.log(energy + 1e-4) - torch.log(wanted + 1e-4)).abs().mean()
    return total / 3


def draw_crop(
    rng: np.random.Generator, sampler: Sampler, side: int, bends: AugmentConfig
) -> NDArray[np.uint8]:
    """A crop (3, side, side): zoomed, stained anew, coded as JPEG and turned, as drawn."""
    zoom = augment.draw_zoom(rng, bends)
    window = sampler.draw(rng, int(side * zoom))
    rgb = augment.resize(sampler.read(window), side)
    bend = augment.draw_bend(rng, bends)
    rgb = rgb if bend is None else bend.apply(rgb)
    rgb = augment.jpeg_again(rgb, augment.draw_jpeg(rng, bends))
    turned = augment.turn(rgb, int(rng.integers(8)))
    return np.ascontiguousarray(turned.transpose(2, 0, 1)).astype(np.uint8, copy=False)


def sheet_of_crops(model: nn.Module, crops: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Crops (3, side, side) above their reconstructions by an autoencoder."""
    batch = np.stack(crops)
    rgb = torch.from_numpy(batch).float().div(127.5).sub(1)
    ours = model(rgb).clamp(-1, 1).add(1).mul(127.5).round().byte().numpy()
    rows = [np.concatenate(list(part.transpose(0, 2, 3, 1)), 1) for part in (batch, ours)]
    return np.concatenate(rows, 0)


class AutoencoderStage:
    """Samples, loss and sheet of the stage."""

    def __init__(self, config: AutoencoderTraining) -> None:
        self.config = config
        self.sampler = Sampler(load_places(config.data), config.data, config.side * 5 // 4)
        torch.manual_seed(config.loop.seed)
        self.model = channels_last(PixelShuffleAutoencoder(config.model))
        crops = np.stack([self.sample(-1 - i)["rgb"] for i in range(256)])
        patches = torch.from_numpy(crops).float().div(127.5).sub(1)
        patches = F.pixel_unshuffle(patches, FACTOR).unflatten(1, (3, FACTOR, FACTOR))
        self.model.start_from_patches(patches.permute(0, 4, 5, 1, 2, 3).flatten(0, 2))

    def sample(self, index: int) -> Sample:
        """One crop `rgb` (3, side, side) uint8, and the seed of its latent noise."""
        config, side = self.config, self.config.side
        rng = generator(config.loop.seed, index & (2**63 - 1))
        rgb = draw_crop(rng, self.sampler, side, config.augment)
        noise = rng.standard_normal((config.model.latent_channels, side // 8, side // 8))
        noise *= rng.uniform(0, config.loss.noise)
        return {
            "rgb": rgb,
            "noise": noise.astype(np.float32),
        }

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Absolute and squared error, octave energies, and latents kept near standard."""
        weights = self.config.loss
        rgb = batch["rgb"].float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        latent = self.model.encode(rgb)
        ours = self.model.decode(latent + batch["noise"])
        error = ours - rgb
        squared = error.square().mean()
        texture = octave_loss(ours, rgb)
        mean, spread = latent.mean((0, 2, 3)), latent.var((0, 2, 3))
        standard = mean.square().mean() + (spread - 1).square().mean()
        bounded = F.relu(latent.abs() - 5).square().mean()
        loss = error.abs().mean() + weights.squared * squared + weights.octave * texture
        loss = loss + weights.latent * (standard + bounded)
        psnr = -10 * torch.log10(error.square().mean((1, 2, 3)) / 4).mean()
        return loss, {"psnr": psnr.detach(), "texture": texture.detach(), "std": standard.detach()}

    def sheet(self) -> NDArray[np.uint8]:
        """Eight crops above their reconstructions."""
        return sheet_of_crops(self.model, [self.sample(2**40 + i)["rgb"] for i in range(8)])

    @torch.no_grad()
    def finish(self) -> None:
        """Set mean and deviation so that latents of training crops are standard."""
        crops = np.stack([self.sample(2**41 + i)["rgb"] for i in range(256)])
        raw = [
            self.model.encoder(torch.from_numpy(part).float().div(127.5).sub(1))
            for part in np.array_split(crops, 16)
        ]
        latents = torch.cat(raw).transpose(0, 1).flatten(1)
        self.model.mean.copy_(latents.mean(1))
        self.model.std.copy_(latents.std(1))
