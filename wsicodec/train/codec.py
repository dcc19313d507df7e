"""Stage `codec`: integer tables for embeddings, fitted to the variants' grids."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsicodec.coding.fit import fit_tables
from wsicodec.errors import ConfigError
from wsicodec.train.data import DataConfig, load_pictures
from wsicodec.train.variants import VariantConfig, load_variants


@dataclass(frozen=True, slots=True)
class CodecFit:
    """One fit of the tables."""

    folder: str = "runs/codec"
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)
    source_cap: int = 1500  # vectors that one source may give
    bytes_per_vector: float = 24.0


def fit(config: CodecFit) -> None:
    """Write codec.safetensors, and in scale.json what conditions are divided by."""
    from safetensors.numpy import save_file

    grids, taken = [], dict[str, int]()
    for variant in load_variants(load_pictures(config.data), config.variants):
        found = variant.embeddings()
        if found is None or not found[1].any() or variant.mag_index != 0:
            continue
        if taken.get(variant.source, 0) < config.source_cap:
            taken[variant.source] = taken.get(variant.source, 0) + int(found[1].sum())
            grids.append(found[0])
    if not grids:
        raise ConfigError("expected embedding grids in the variants; run the stage `variants`")
    tables = fit_tables(grids, target_bytes=config.bytes_per_vector)
    vectors = np.concatenate([g[np.any(g != 0, axis=-1)] for g in grids])
    folder = Path(config.folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tables.to_tensors()), folder / "codec.safetensors")
    facts = {
        "embedding_scale": float(vectors.std()),
        "vectors": len(vectors),
        "components": tables.components,
        "step": tables.step,
        "per_source": taken,
    }
    (folder / "scale.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
