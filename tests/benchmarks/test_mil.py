"""The linear probe of tissue classes, on vectors whose classes are known."""

import numpy as np
import pytest

from wsicodec.bench.quantizers import PART
from wsicodec.coding import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import load_bundle

mil = pytest.importorskip("benchmarks.mil", exc_type=ImportError)


@pytest.fixture
def tables() -> EmbeddingTables:
    return EmbeddingTables.from_tensors(load_bundle().tensors(PART))


def _split(tables: EmbeddingTables, rng: np.random.Generator, classes: tuple[str, ...]) -> object:
    """Six pictures a class, eight vectors each, apart along the strongest component."""
    basis, mean = tables.basis / 2**14, tables.mean * tables.step / 2**14
    grid = np.zeros((6 * len(classes), 8, tables.width), np.float32)
    for i in range(len(grid)):
        parts = rng.normal(size=(8, tables.components)) * tables.step
        parts[:, 0] += 9 * tables.step * (i // 6)
        grid[i] = mean + parts @ basis
    labels = np.repeat(np.array(classes), 48)
    files = np.repeat([f"{i}.jpg" for i in range(len(grid))], 8)
    return mil.Split(grid, np.ones(grid.shape[:2], bool), labels, files)


def test_classes_that_are_apart_are_told_apart(
    tables: EmbeddingTables, rng: np.random.Generator
) -> None:
    fit, test = (_split(tables, rng, ("a", "b")) for _ in range(2))
    rows = {(r.setting, r.metric): r.value for r in mil.rows_of(fit, test, tables)}
    assert rows["float32", "balanced_accuracy"] > 0.9
    assert rows["step x1", "balanced_accuracy"] > 0.9
    assert rows["step x32", "balanced_accuracy"] < 0.6, "nothing is left of the vectors"
    assert rows["float32", "rate"] == 32 * tables.width
    rates = [rows[f"step x{f:g}", "rate"] for f in mil.FACTORS]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rows["float32", "rate"] / 100


def test_chance_is_half(tables: EmbeddingTables, rng: np.random.Generator) -> None:
    """Classes of one law: within four standard errors of 96 fair guesses."""
    one, other = (_split(tables, rng, ("a", "a")) for _ in range(2))
    mixed = [
        mil.Split(s.grid, s.valid, rng.permutation(np.repeat(["a", "b"], 48)), s.files)  # type: ignore[attr-defined]
        for s in (one, other)
    ]
    rows = mil.rows_of(*mixed, tables)
    assert abs(rows[0].value - 0.5) < 4 * 0.5 / 96**0.5
    assert rows[0].low < rows[0].value < rows[0].high


def test_one_class_cannot_be_told_apart(tables: EmbeddingTables, rng: np.random.Generator) -> None:
    split = _split(tables, rng, ("a",))
    with pytest.raises(ConfigError, match="two classes"):
        mil.rows_of(split, split, tables)


def test_balanced_accuracy_weighs_classes_alike() -> None:
    labels = np.array(["a"] * 9 + ["b"])
    assert mil.balanced(np.array(["a"] * 10), labels) == 0.5
