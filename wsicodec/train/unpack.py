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
    runs: str = "runs"  # folders embedder, autoencoder, zoomldm and codec are written below it


def unpack(config: Unpacking) -> None:
    """Write one run folder per network, and one with the codec's tables."""
    bundle, runs = Bundle(Path(config.bundle)), Path(config.runs)
    for part, prefix in (
        ("embedder", "average.teacher."),
        ("autoencoder", "average."),
        ("zoomldm", "average."),
    ):
        weights = bundle.weights(f"{part}.safetensors")
        tensors = {f"{prefix}{k}": torch.from_numpy(v.copy()) for k, v in weights.items()}
        record: dict[str, Any] = bundle.config.get("record", {}).get(part, {})
        facts = {
            "seen": record.get("patches", 0),
            "seconds": record.get("seconds", 0),
            "config": {"model": bundle.config[part]},
        }
        checkpoint.save(runs / part, tensors, facts)
    (runs / "codec").mkdir(parents=True, exist_ok=True)
    save_file(bundle.tensors("codec.safetensors"), runs / "codec" / "codec.safetensors")
    scale = {"embedding_scale": bundle.embedding_scale}
    (runs / "codec" / "scale.json").write_text(json.dumps(scale) + "\n", "utf-8")
