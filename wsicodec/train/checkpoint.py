"""Resumable state as safetensors and JSON, written whole or not at all; no pickle."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsicodec.errors import ConfigError

NAME = "checkpoint.safetensors"


def save(folder: Path, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> None:
    """Write both into one file of `folder`, atomically, so that state and facts never disagree."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{NAME}.tmp"
    whole = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    save_file(whole, temporary, metadata={"facts": json.dumps(facts)})
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(folder / NAME)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts back; raises ConfigError when there is no checkpoint."""
    path = folder / NAME
    if not path.exists():
        raise ConfigError(f"expected a checkpoint {NAME} in {folder}, found none; train it first")
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as opened:
        facts = json.loads((opened.metadata() or {}).get("facts", "{}"))
    return load_file(path), facts


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors; hyperparameters come from the configuration."""
    packed = {}
    for number, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            packed[f"optimizer.{number}.{name}"] = torch.as_tensor(value)
    return packed


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `pack_optimizer` took."""
    record = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = value
    record["state"] = state
    optimizer.load_state_dict(record)


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below `prefix`, which is taken off their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
