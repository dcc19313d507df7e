"""Bundles with a coarser or finer embedding quantiser, from the tables that a bundle has."""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from wsicodec.coding import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import Bundle

PART = "codec.safetensors"


def scaled(tables: EmbeddingTables, factor: float) -> EmbeddingTables:
    """The same transform with a step `factor` times as wide.

    The mean is kept in steps, and so is the expected size of residuals; the frequency tables are
    sorted by that size and stay. Nothing is fitted anew, so these rates are upper bounds.

    Raises ConfigError unless the factor is positive.
    """
    if not factor > 0:
        raise ConfigError(f"expected a positive factor of the quantiser's step, got {factor}")
    priors = np.rint(tables.model.prior_magnitudes / factor).clip(1, 1 << 28)
    return dataclasses.replace(
        tables,
        mean=np.rint(tables.mean / factor).astype(np.int32),
        step=tables.step * factor,
        model=dataclasses.replace(tables.model, prior_magnitudes=priors.astype(np.int32)),
    )


def write_scaled(bundle: Bundle, factor: float, folder: Path) -> Path:
    """Copy a bundle into a new folder with its quantiser's step scaled; returns that folder."""
    from safetensors.numpy import save

    tables = scaled(EmbeddingTables.from_tensors(bundle.tensors(PART)), factor)
    data = save({k: np.ascontiguousarray(v) for k, v in tables.to_tensors().items()})
    config = json.loads(json.dumps(bundle.config))
    config["files"][PART] = hashlib.sha256(data).hexdigest()
    config["name"] = f"{bundle.name}, step x{factor:g}"
    shutil.copytree(bundle.path, folder)
    (folder / PART).write_bytes(data)
    (folder / "bundle.json").write_text(json.dumps(config, indent=1) + "\n", "utf-8")
    return folder
