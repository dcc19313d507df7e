"""Stage `embedder`: pixels of a patch to one vector, by self-distillation on crops."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsicodec.geometry import PATCH
from wsicodec.models.stain_statistics import STATISTICS, measured
from wsicodec.models.vit import VitConfig
from wsicodec.train import augment, checkpoint
from wsicodec.train.augment import AugmentConfig
from wsicodec.train.data import DataConfig, Pixels, Sampler, generator, load_places
from wsicodec.train.dino import DinoConfig, Distillation
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample

FITTED, BATCH = 1024, 16  # patches that stain statistics are fitted to, and of them at once


@dataclass(frozen=True, slots=True)
class CropConfig:
    """Which crops of a window are compared.

    Crops of one window lie side by side as often as they overlap, so that tissue is like its
    neighbours; and they share one bend of the stain, as a codec wants the stain back: a vector may
    not be taught to ignore it as it would be for classification.
    """

    window: int = 384  # pixels a side of what crops are taken from
    large: int = 128  # pixels a side after resampling
    small: int = 64
    large_count: int = 2
    small_count: int = 4
    large_area: tuple[float, float] = (0.11, 0.44)  # share of the window
    small_area: tuple[float, float] = (0.03, 0.11)
    blur_share: float = 0.2  # of crops blurred
    blur: float = 1.0  # largest radius, pixels


@dataclass(frozen=True, slots=True)
class EmbedderTraining:
    """One run of the stage."""

    folder: str = "runs/embedder"
    start: str = ""  # run to begin from; what does not fit begins anew
    model: VitConfig = field(
        default_factory=lambda: VitConfig(192, 5, 3, train_size=256, statistics=STATISTICS)
    )
    dino: DinoConfig = field(default_factory=DinoConfig)
    crops: CropConfig = field(default_factory=CropConfig)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(
            source_cap=0.25, magnifications=(0.85, 0.1, 0.05, 0, 0, 0, 0, 0)
        )
    )
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(stain_gain=0.1, stain_bias=0.015, channel_gain=0.02)
    )
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(batch=32, weight_decay=0.04))
    rate: RateConfig = field(default_factory=RateConfig)


class EmbedderStage:
    """Samples, loss and start of the stage."""

    def __init__(self, config: EmbedderTraining) -> None:
        self.config = config
        self.sampler = Sampler(load_places(config.data), config.data, config.crops.window)
        torch.manual_seed(config.loop.seed)
        self.model = Distillation(config.model, config.dino)
        if config.start:
            self._start_from_run(Path(config.start))
        else:
            self._start_from_pixels()

    def _start_from_run(self, folder: Path) -> None:
        tensors = checkpoint.part(checkpoint.load(folder)[0], "average.")
        # A run that comes from a bundle holds the teacher alone.
        teacher = checkpoint.part(tensors, "teacher.")
        tensors = {f"student.{k}": v for k, v in teacher.items()} | tensors
        mine = self.model.state_dict()
        fitting = {k: v for k, v in tensors.items() if k in mine and v.shape == mine[k].shape}
        self.model.load_state_dict(mine | fitting)

    def _start_from_pixels(self) -> None:
        side = self.config.model.patch
        crops = np.stack([self.sample(-1 - i)["large"][0] for i in range(128)])
        pixels = torch.from_numpy(crops).float().div(127.5).sub(1)
        tokens = pixels.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
        self.model.student.start_from_pixels(tokens.flatten(0, 2))
        self.model.teacher.load_state_dict(self.model.student.state_dict())

    def sample(self, index: int) -> Sample:
        """Crops `large` (g, 3, h, w) and `small` (l, 3, h', w') uint8 of window `index`."""
        crops = self.config.crops
        rng = generator(self.config.loop.seed, index & (2**63 - 1))
        window = self.sampler.read(self.sampler.draw(rng, crops.window))
        bend = augment.draw_bend(rng, self.config.augment)
        window = window if bend is None else bend.apply(window)
        large = [
            self._crop(rng, window, crops.large_area, crops.large) for _ in range(crops.large_count)
        ]
        small = [
            self._crop(rng, window, crops.small_area, crops.small) for _ in range(crops.small_count)
        ]
        return {"large": np.stack(large), "small": np.stack(small), "index": np.array(index)}

    def _crop(
        self, rng: np.random.Generator, window: Pixels, area: tuple[float, float], side: int
    ) -> Pixels:
        crops = self.config.crops
        cut = round(crops.window * float(np.sqrt(rng.uniform(*area))))
        y, x = rng.integers(0, crops.window - cut + 1, 2)
        rgb = augment.resize(window[y : y + cut, x : x + cut], side)
        rgb = augment.jpeg_again(rgb, augment.draw_jpeg(rng, self.config.augment))
        blurred, radius = rng.random() < crops.blur_share, rng.uniform(0, crops.blur)
        rgb = blur(rgb, radius) if blurred else rgb
        turned = augment.turn(rgb, int(rng.integers(8)))
        return np.ascontiguousarray(turned.transpose(2, 0, 1)).astype(np.uint8)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Let the teacher follow, then distil."""
        count, seen = len(batch["index"]), int(batch["index"].min())
        if seen > 0:
            self.model.follow(count, seen)
        large, small = (batch[name].float().div(127.5).sub(1) for name in ("large", "small"))
        return self.model.loss(large, small)

    @torch.no_grad()
    def finish(self) -> None:
        """Fit the stain statistics, which then vary as much as the class token does."""
        teacher = self.model.teacher
        if teacher.stains is None:
            return
        rng = generator(self.config.loop.seed, 2**41)
        parts = [self._patches(rng) for _ in range(FITTED // BATCH)]
        variance = torch.cat([teacher.token(part) for part in parts]).var(0).sum()
        values = torch.cat([measured(part) for part in parts])
        teacher.stains.fit(values, float((variance / STATISTICS).sqrt()))

    def _patches(self, rng: np.random.Generator) -> Tensor:
        """Patches (BATCH, 3, PATCH, PATCH) at 20x, as they will be embedded, in [-1, 1]."""
        windows = [self.sampler.read(self.sampler.draw_at(rng, 0, PATCH)) for _ in range(BATCH)]
        return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float().div(127.5).sub(1)

    def sheet(self) -> NDArray[np.uint8]:
        """Eight samples, one a column: their large crops, then what the vector tells of them."""
        from wsicodec.train.dino import READOUT, THUMBNAIL

        crops = np.stack([self.sample(2**40 + i)["large"] for i in range(8)])
        large = torch.from_numpy(crops[:, 0]).float().div(127.5).sub(1)
        told = self.model.readout(self.model.student.token(large))[:, : READOUT[0]]
        density = told.unflatten(1, (3, THUMBNAIL, THUMBNAIL)) * 0.35 + 0.5
        light = density.neg().exp().clamp(0, 1).mul(255).byte().numpy()
        side = self.config.crops.large
        small = [
            np.asarray(Image.fromarray(t.transpose(1, 2, 0)).resize((side, side), 0)) for t in light
        ]
        rows = [np.concatenate(list(crops[:, i].transpose(0, 2, 3, 1)), 1) for i in range(2)]
        return np.concatenate([*rows, np.concatenate(small, 1)], 0)


def blur(rgb: Pixels, radius: float) -> Pixels:
    """Gaussian blur of (h, w, 3) bytes; `radius` in pixels."""
    from PIL import ImageFilter

    return np.asarray(Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius)))
