"""Bundles with a coarser or finer quantiser."""

from pathlib import Path

import numpy as np
import pytest

from wsicodec.bench.quantizers import PART, scaled, write_scaled
from wsicodec.coding import EmbeddingTables, decode_grid, encode_grid
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import Bundle, load_bundle


@pytest.fixture
def tables() -> EmbeddingTables:
    return EmbeddingTables.from_tensors(load_bundle().tensors(PART))


def _grid(tables: EmbeddingTables, rng: np.random.Generator) -> np.ndarray:
    """Vectors around the mean with a spread of some steps along the kept components."""
    basis = tables.basis / 2**14
    spread = np.geomspace(6, 0.5, tables.components) * tables.step
    mean = tables.mean * tables.step / 2**14
    vectors = mean + (rng.normal(size=(64, tables.components)) * spread) @ basis
    return vectors.reshape(8, 8, -1).astype(np.float32)


def test_a_wider_step_costs_less_and_errs_more(
    tables: EmbeddingTables, rng: np.random.Generator
) -> None:
    grid, valid = _grid(tables, rng), np.ones((8, 8), bool)
    found = []
    for factor in (0.5, 1.0, 2.0, 4.0):
        other = scaled(tables, factor)
        payload = encode_grid(grid, valid, other)
        back = decode_grid(payload, other, (8, 8))[0]
        found.append((len(payload), float(np.square(back - grid).mean())))
    sizes, errors = zip(*found, strict=True)
    assert list(sizes) == sorted(sizes, reverse=True)
    assert list(errors) == sorted(errors)


def test_the_mean_stays_where_it_was(tables: EmbeddingTables) -> None:
    """In units of the embedding, to half a 2**14th of the wider step."""
    other = scaled(tables, 4)
    before, after = (t.mean * t.step / 2**14 for t in (tables, other))
    assert np.abs(before - after).max() <= 0.5 * other.step / 2**14 * (1 + 1e-9)


def test_the_bundle_is_whole_and_another_one(tmp_path: Path) -> None:
    bundle = load_bundle()
    copy = Bundle(write_scaled(bundle, 2, tmp_path / "coarse"))
    assert copy.fingerprint != bundle.fingerprint
    step = EmbeddingTables.from_tensors(copy.tensors(PART)).step
    assert step == 2 * EmbeddingTables.from_tensors(bundle.tensors(PART)).step
    assert copy.name.endswith("step x2")


def test_no_step_is_refused(tables: EmbeddingTables) -> None:
    with pytest.raises(ConfigError, match="positive"):
        scaled(tables, 0)
