"""Stage `reconstruct`: what an autoencoder leaves of held-out tissue, level by level."""

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wsicodec.models.published.vq import VqAutoencoder, VqConfig
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_autoencoder
from wsicodec.train.chain import compare, medians, true_levels
from wsicodec.train.chain_eval import ChainMeasurement, choose_fields
from wsicodec.train.data import DataConfig, Pixels


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Which runs are measured, on what, and where the rows go."""

    runs: tuple[str, ...] = ("runs/autoencoder",)
    out: str = "benchmarks/results/training/autoencoder_val.csv"
    fields: int = 24  # at most one per picture
    side: int = 512  # pixels
    data: DataConfig = field(default_factory=lambda: DataConfig(split="val"))


def load_either(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The averaged autoencoder of a run of the stage `autoencoder` or `vq`, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    if "codes" not in facts["config"]["model"]:
        return load_autoencoder(folder)
    model = VqAutoencoder(VqConfig.from_json(facts["config"]["model"]))
    model.load_state_dict(checkpoint.part(tensors, "average."))
    return model.eval(), facts


@torch.inference_mode()
def reconstruct(model: nn.Module, rgb: Pixels) -> Pixels:
    """Pixels (h, w, 3) after encoding and decoding, rounded as a reader gets them."""
    images = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float().div(127.5).sub(1)
    out = model(images)[0].add(1).mul(127.5).add(0.5).floor().clamp(0, 255)
    return np.asarray(out.byte().permute(1, 2, 0).numpy())


def measure_autoencoders(config: Reconstruction) -> None:
    """Write a row of medians over fields for every run and level."""
    fields = choose_fields(
        ChainMeasurement(fields=config.fields, side=config.side, data=config.data)
    )
    rows = []
    for folder in config.runs:
        model, facts = load_either(Path(folder))
        found: dict[int, list[dict[str, float]]] = {}
        for one in fields:
            for level, true in enumerate(true_levels(one.rgb)):
                ours = reconstruct(model, true)
                colour = ours.mean((0, 1)) - true.mean((0, 1))
                row = compare(ours, true) | {"colour": float(np.abs(colour).max())}
                found.setdefault(level, []).append(row)
        for level, of_level in found.items():
            row = {k: round(v, 4) for k, v in medians(of_level).items()}
            name = {"run": Path(folder).name, "patches": facts["seen"], "fields": len(fields)}
            rows.append({**name, "level": level, **row})
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    with Path(config.out).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
