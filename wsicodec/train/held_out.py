"""Stage `held_out`: the encoder that judges pictures and never helps to draw them.

Three tasks share its features, none of them the conditioning embedder's: two crops of a window
against all other crops, damaged ones of the same window among them (Chen et al. 2020); what a crop
was damaged by and how strongly; the tissue's magnification index.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from wsicodec.geometry import LEVELS
from wsicodec.metrics.degrade import KINDS
from wsicodec.metrics.held_out import BatchNorm, HeldOutConfig, HeldOutEncoder
from wsicodec.train import augment, checkpoint
from wsicodec.train.augment import AugmentConfig
from wsicodec.train.config import to_record
from wsicodec.train.data import DataConfig, Pixels, Sampler, generator, load_places
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample

CONFIG = "wsicodec/train/configs/held_out.json"
FRESH = 2**40  # samples from here on are never trained on


@dataclass(frozen=True, slots=True)
class HeldOutTraining:
    """One run of the stage."""

    folder: str = "runs/held_out"
    ship: str = ""  # file that the finished weights go to; empty keeps them in the run
    model: HeldOutConfig = field(default_factory=HeldOutConfig)
    window: int = 112  # pixels a side of what crops are taken from
    crop: int = 64
    temperature: float = 0.2  # of the contrast between crops
    damage_weight: float = 2.0  # of naming the degradation
    magnification_weight: float = 0.5
    standard_crops: int = 1024  # undamaged ones that shipped features have deviation 1 over
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(jpeg_share=0))
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(batch=16, average=2_000))
    rate: RateConfig = field(default_factory=lambda: RateConfig(5e-4, 800, 40_000, 0.7))


class Tasks(nn.Module):
    """The encoder and one small head per task."""

    def __init__(self, config: HeldOutConfig) -> None:
        super().__init__()
        self.encoder = HeldOutEncoder(config)
        width = self.encoder.width
        self.norm = BatchNorm(width, affine=False)
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64))
        self.kind = nn.Linear(width, 1 + len(KINDS))  # 0 is undamaged
        self.strength = nn.Linear(width, len(KINDS))
        self.magnification = nn.Linear(width, LEVELS)
        # Begin at the shares that `sample` draws: Adam moves a bias too slowly to find them.
        shares = torch.tensor([2.0 / 3] + [1 / 3 / len(KINDS)] * len(KINDS))
        self.kind.bias.data.copy_(shares.log())
        nn.init.constant_(self.strength.bias, 0.5)


class HeldOutStage:
    """Samples and loss of the stage."""

    def __init__(self, config: HeldOutTraining) -> None:
        self.config = config
        self.sampler = Sampler(load_places(config.data), config.data, config.window)
        torch.manual_seed(config.loop.seed)
        tasks = Tasks(config.model)
        self.model = tasks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def sample(self, index: int) -> Sample:
        """Crops of window `index`: `clean` (2, 3, h, w), `bad` (3, h, w) uint8, and labels."""
        rng = generator(self.config.loop.seed, index)
        place = self.sampler.draw(rng, self.config.window)
        window = self.sampler.read(place)
        bend = augment.draw_bend(rng, self.config.augment)
        window = window if bend is None else bend.apply(window)
        number = int(rng.integers(len(KINDS)))
        kind = KINDS[number]
        step = int(rng.integers(len(kind.strengths)))
        bad = kind.apply(window, kind.strengths[step], rng)
        mag = self.sampler.places[place.picture].mag_index + place.level
        return {
            "clean": np.stack([self._crop(rng, window), self._crop(rng, window)]),
            "bad": self._crop(rng, bad),
            "kind": np.array(number),
            "strength": np.array(step / (len(kind.strengths) - 1), np.float32),
            "mag": np.array(mag),
        }

    def _crop(self, rng: np.random.Generator, window: Pixels) -> NDArray[np.uint8]:
        side = self.config.crop
        y, x = rng.integers(0, self.config.window - side + 1, 2)
        turned = augment.turn(window[y : y + side, x : x + side], int(rng.integers(8)))
        return np.ascontiguousarray(turned.transpose(2, 0, 1)).astype(np.uint8)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the tasks' losses; see `contrast` for the first."""
        count = len(batch["bad"])
        crops = torch.cat([batch["clean"][:, 0], batch["clean"][:, 1], batch["bad"]])
        features = self.model.norm(self.model.encoder.means(to_network(crops)))
        clean, bad = features[: 2 * count], features[2 * count :]
        damage = torch.cat([batch["kind"].new_zeros(2 * count), batch["kind"] + 1])
        said = self.model.strength(bad).gather(1, batch["kind"][:, None])[:, 0]
        kinds = self.model.kind(features)
        terms = {
            "contrast": contrast(self.model.project(features), count, self.config.temperature),
            "kind": F.cross_entropy(kinds, damage),
            "strength": F.smooth_l1_loss(said, batch["strength"], beta=0.1),
            "mag": F.cross_entropy(self.model.magnification(clean), batch["mag"].repeat(2)),
        }
        loss = terms["contrast"] + self.config.damage_weight * terms["kind"] + terms["strength"]
        loss = loss + self.config.magnification_weight * terms["mag"]
        right = (kinds.argmax(1) == damage).float().mean()
        return loss, {k: v.detach() for k, v in terms.items()} | {"kind_right": right}

    def sheet(self) -> None:
        """There is nothing to see."""


def contrast(projected: Tensor, count: int, temperature: float) -> Tensor:
    """Cross-entropy of finding a crop's twin among all others (Chen et al. 2020, eq. 1).

    Args:
        projected: (3 count, d): first crops, second crops, then damaged ones, which are nobody's
            twin.
        count: windows.
        temperature: what cosines are divided by.
    """
    unit = F.normalize(projected, dim=1)
    alike = unit[: 2 * count] @ unit.T / temperature
    itself = torch.eye(2 * count, 3 * count, dtype=torch.bool, device=alike.device)
    twin = torch.arange(2 * count, device=alike.device).roll(count)
    return F.cross_entropy(alike.masked_fill(itself, -torch.inf), twin)


@torch.no_grad()
def standardize(encoder: HeldOutEncoder, stage: HeldOutStage, count: int) -> HeldOutEncoder:
    """Give features mean 0 and deviation 1 over `count` undamaged crops, none trained on."""
    crops = [stage.sample(FRESH + i)["clean"][0] for i in range(count)]
    parts = [torch.from_numpy(np.stack(crops[i : i + 32])) for i in range(0, count, 32)]
    features = torch.cat([encoder(to_network(part)) for part in parts])
    encoder.shift.copy_(features.mean(0))
    encoder.scale.copy_(features.std(0).clamp_min(1e-3))
    return encoder


def to_network(crops: Tensor) -> Tensor:
    """Bytes to [-1, 1]."""
    return crops.float().div(127.5).sub(1)


def ship(config: HeldOutTraining) -> Path:
    """Write the averaged weights in half precision, and beside them how they were made."""
    tensors, facts = checkpoint.load(Path(config.folder))
    encoder = HeldOutEncoder(config.model)
    encoder.load_state_dict(checkpoint.part(tensors, "average.encoder."))
    stage = HeldOutStage(config)
    weights = standardize(encoder.eval(), stage, config.standard_crops).state_dict()
    # Kernels alone: the variances of norms may lie below what half precision resolves.
    data = save({k: (v.half() if v.dim() == 4 else v).contiguous() for k, v in weights.items()})
    target = Path(config.ship)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.with_suffix(".json").write_text(
        json.dumps(_record(config, facts, data), indent=2) + "\n"
    )
    return target


def _record(config: HeldOutTraining, facts: dict[str, Any], data: bytes) -> dict[str, Any]:
    settings = to_record(config)
    for name in ("folder", "ship"):
        del settings[name]
    del settings["data"]["root"], settings["data"]["cache"]
    return {
        "widths": list(config.model.widths),
        "sha256": hashlib.sha256(data).hexdigest(),
        "use": "judging pictures only; never for training a decoder",
        "command": f"python -m wsicodec.train held_out --config {CONFIG}",
        "windows_seen": facts["seen"],
        "wall_seconds": round(facts["seconds"]),
        "settings": settings,
    }
