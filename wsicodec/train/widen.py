"""Stage `widen`: a run that goes on with embeddings of more values, drawing as it did before.

What is new of an embedding enters through columns of zeros, which training may then use; what is
old keeps its weights, rescaled where conditions are now divided by another scale.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wsicodec.errors import ConfigError
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_tables

LAYERS = ("summarizer.first.weight", "critic.cond.weight")  # (out, width + 1, 1, 1)


@dataclass(frozen=True, slots=True)
class Widening:
    """Which run is read, which is written, and the tables of the old and the new embeddings."""

    start: str = "runs/distill"
    folder: str = "runs/distill_wide"
    old_tables: str = "runs/codec"
    tables: str = "runs/codec_wide"


def widen(config: Widening) -> None:
    """Write the run anew, its optimizer included; raises ConfigError if embeddings got narrower."""
    tensors, facts = checkpoint.load(Path(config.start))
    before, scale_before = _width_and_scale(config.old_tables)
    width, scale = _width_and_scale(config.tables)
    if width < before:
        raise ConfigError(
            f"expected tables in {config.tables} of at least the {before} values of "
            f"{config.old_tables}, got {width}; a run cannot forget values"
        )
    for name, value in tensors.items():
        if name.endswith(LAYERS):
            tensors[name] = _widened(value, before, width, scale / scale_before)
        elif name.startswith("optimizer.") and value.dim() == 4 and value.shape[1] == before + 1:
            tensors[name] = _widened(value, before, width, 1.0)
    _set_width(facts["config"], width)
    checkpoint.save(Path(config.folder), tensors, facts)


def _width_and_scale(folder: str) -> tuple[int, float]:
    tables, scale = load_tables(Path(folder))
    return int(tables["basis"].shape[1]), scale


def _widened(value: Tensor, before: int, width: int, factor: float) -> Tensor:
    """(out, before + 1, 1, 1) as (out, width + 1, 1, 1); the last column is of coverage."""
    new = value.new_zeros(len(value), width - before, *value.shape[2:])
    return torch.cat([value[:, :before] * factor, new, value[:, before:]], 1)


def _set_width(record: dict[str, Any], width: int) -> None:
    for name, value in record.items():
        if isinstance(value, dict):
            _set_width(value, width)
        elif name == "embedding_width":
            record[name] = width
