"""Stage `unpack`: a bundle back into run folders, so that training goes on from what is shipped.

Optimizer state is not in a bundle: a run that starts here warms up anew.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save_file

from wsicodec.models.bundle import Bundle
from wsicodec.train import checkpoint


@dataclass(frozen=True, slots=True)
class Unpacking:
    """Which bundle goes where."""

    bundle: str = "wsicodec/bundles/small"
    runs: str = "runs"  # folders named after stages go below it


def unpack(config: Unpacking) -> None:
    """Write a run folder per stage, and one with the codec's tables."""
    bundle, runs = Bundle(Path(config.bundle)), Path(config.runs)
    record = bundle.config.get("record", {})
    networks = {"embedder": "average.teacher.", "autoencoder": "average.", "zoomldm": "average."}
    for part, prefix in networks.items():
        tensors = _tensors(bundle, part, prefix)
        _save(runs / part, tensors, {"model": bundle.config[part]}, record.get(part, {}))
    both = _tensors(bundle, "zoomldm", "average.zoomldm.")
    both |= _tensors(bundle, "renderer", "average.renderer.")
    settings = {
        "zoomldm": {"model": bundle.config["zoomldm"]},
        "renderer": bundle.config["renderer"],
    }
    _save(runs / "distill", both, settings, record.get("zoomldm", {}))
    if "edm" in bundle.config:
        tensors = _tensors(bundle, "edm", "average.")
        _save(runs / "edm", tensors, {"model": bundle.config["edm"]}, record.get("edm", {}))
    (runs / "codec").mkdir(parents=True, exist_ok=True)
    save_file(bundle.tensors("codec.safetensors"), runs / "codec" / "codec.safetensors")
    scale = {"embedding_scale": bundle.embedding_scale}
    (runs / "codec" / "scale.json").write_text(json.dumps(scale) + "\n", "utf-8")


def _tensors(bundle: Bundle, part: str, prefix: str) -> dict[str, torch.Tensor]:
    weights = bundle.weights(f"{part}.safetensors")
    return {f"{prefix}{k}": torch.from_numpy(v.copy()) for k, v in weights.items()}


def _save(
    folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any], record: dict[str, Any]
) -> None:
    facts = {"seen": record.get("patches", 0), "seconds": record.get("seconds", 0)}
    checkpoint.save(folder, tensors, facts | {"config": config})
