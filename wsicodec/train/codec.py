"""Stage `codec`: integer tables for embeddings, fitted to the variants' grids."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.fit import fit_tables
from wsicodec.errors import ConfigError
from wsicodec.train.data import DataConfig
from wsicodec.train.streamed import open_variants
from wsicodec.train.variants import VariantConfig

WHOLE = 64  # cells; a grid with no longer side is taken whole
PIECE = 16  # cells a side of what larger grids are cut into


@dataclass(frozen=True, slots=True)
class CodecFit:
    """One fit of the tables."""

    folder: str = "runs/codec"
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)
    source_cap: int = 1500  # vectors that one source may give
    bytes_per_vector: float = 24.0


def _parts(
    grid: NDArray[np.floating], valid: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    """A grid in pieces of PIECE cells a side: of a slide some are wanted, not all."""
    if max(valid.shape) <= WHOLE:
        yield grid, valid
        return
    for y in range(0, valid.shape[0], PIECE):
        for x in range(0, valid.shape[1], PIECE):
            part = np.s_[y : y + PIECE, x : x + PIECE]
            yield grid[part], valid[part]


def fit(config: CodecFit) -> None:
    """Write codec.safetensors, and in scale.json what conditions are divided by."""
    from safetensors.numpy import save_file

    variants = open_variants(config.data, config.variants)
    several, grids, taken = Counter(v.source for v in variants), [], Counter[str]()
    for variant in variants:
        found = variant.embeddings()
        if found is None or not found[1].any() or variant.mag_index != 0:
            continue
        share = max(PIECE**2, config.source_cap // several[variant.source])
        most = min(config.source_cap, taken[variant.source] + share)
        for grid, valid in _parts(*found):
            if taken[variant.source] < most and valid.any():
                taken[variant.source] += int(valid.sum())
                grids.append(np.asarray(grid, np.float32))
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
        "per_source": dict(taken),
    }
    (folder / "scale.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
