from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, dequantize, quantize
from wsicodec.coding.entropy_model import MAX_SYMBOL
from wsicodec.errors import BundleError, ConfigError


def test_dequantize_equals_exact_rational_arithmetic(tables: EmbeddingTables) -> None:
    rng = np.random.default_rng(0)
    symbols = rng.integers(-MAX_SYMBOL, MAX_SYMBOL + 1, size=(3, tables.components), dtype=np.int32)
    scale = Fraction(tables.step / 2**14)
    basis, mean = tables.basis.tolist(), tables.mean.tolist()
    for row, decoded in zip(symbols.tolist(), dequantize(symbols, tables), strict=True):
        for j, value in enumerate(decoded):
            total = sum(s * basis[i][j] for i, s in enumerate(row)) + mean[j]
            assert value == np.float32(float(total * scale))


def test_quantize_is_the_same_alone_and_in_a_batch(
    tables: EmbeddingTables, grids: list[NDArray[np.float32]]
) -> None:
    vectors = grids[0].reshape(-1, tables.width)
    together = quantize(vectors, tables)
    alone = np.concatenate([quantize(v[None], tables) for v in vectors])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together, quantize(vectors.astype(np.float64), tables))


def test_a_whole_basis_keeps_the_error_within_the_quantiser(
    grids: list[NDArray[np.float32]],
) -> None:
    from wsicodec.coding import fit_tables

    tables = fit_tables(grids, step=0.01, dead_zone=0.5)
    vectors = grids[0].reshape(-1, tables.width)
    error = vectors - dequantize(quantize(vectors, tables), tables)
    assert tables.components == tables.width
    assert np.square(error).mean() == pytest.approx(0.01**2 / 12, rel=0.05)


def test_the_dead_zone_silences_small_components_and_no_others(
    tables: EmbeddingTables, grids: list[NDArray[np.float32]]
) -> None:
    vectors = grids[0].reshape(-1, tables.width)
    plain = quantize(vectors, replace(tables, dead_zone=1 << 13))
    wide = quantize(vectors, replace(tables, dead_zone=1 << 14))
    np.testing.assert_array_equal(wide[np.abs(plain) > 1], plain[np.abs(plain) > 1])
    assert np.count_nonzero(wide) < np.count_nonzero(plain)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_values_that_cannot_be_coded_are_refused(tables: EmbeddingTables, bad: float) -> None:
    vectors = np.zeros((2, tables.width), np.float32)
    vectors[1, 3] = bad
    with pytest.raises(ConfigError, match="expected finite embeddings within"):
        quantize(vectors, tables)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 2, 24)])
def test_other_shapes_are_refused(tables: EmbeddingTables, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected embeddings of shape \(n, 24\)"):
        quantize(np.zeros(shape, np.float32), tables)


def test_tensors_round_trip_with_the_fingerprint(tables: EmbeddingTables) -> None:
    again = EmbeddingTables.from_tensors(tables.to_tensors())
    assert again.fingerprint == tables.fingerprint
    assert len(tables.fingerprint) == 64


def test_the_fingerprint_covers_every_tensor(tables: EmbeddingTables) -> None:
    tensors = tables.to_tensors()
    prints = {tables.fingerprint}
    for name, tensor in tensors.items():
        changed = tensor.copy().ravel()
        if name == "frequencies":  # two columns that stay at least 1 and keep their sum
            high = int(changed.argmax())
            low = high - 1 if high % tensor.shape[2] else high + 1
            changed[high] -= 1
            changed[low] += 1
        elif name == "neighbour_weights":
            changed[0] ^= 1
        else:
            changed[0] += 1
        tensors_now = tensors | {name: changed.reshape(tensor.shape)}
        prints.add(EmbeddingTables.from_tensors(tensors_now).fingerprint)
    assert len(prints) == len(tensors) + 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("basis", np.full((1, 24), 2**31 - 1, np.int32), "expected frequency tables of 1"),
        ("basis", np.full((24, 24), 2**31 - 1, np.int32), r"expected sums below 2\*\*53"),
        ("basis", np.zeros((25, 24), np.int32), "k <= d"),
        ("basis", np.zeros((0, 24), np.int32), r"expected a basis \(k, d\)"),
        ("basis", np.zeros((4, 24), np.int64), "expected codec tables of types"),
        ("mean", np.zeros(23, np.int32), r"expected a basis \(k, d\)"),
        ("step", np.array([0.0]), "positive step"),
        ("step", np.array([np.nan]), "positive step"),
        ("step", np.array([1.0, 1.0]), "one step"),
        ("dead_zone", np.array([100], np.int32), "expected a dead zone"),
        ("frequencies", np.zeros((28, 4, 32), np.int32), "expected frequencies of 1"),
        ("frequencies", np.ones((28, 4, 32), np.int32), "expected sums of frequencies"),
        ("frequencies", np.ones((28, 4, 33), np.int32), "expected frequencies"),
        ("prior_magnitudes", np.zeros(24, np.int32), "expected prior_magnitudes"),
        ("neighbour_weights", np.full(24, 257, np.int32), "expected neighbour_weights"),
        ("x", np.zeros(1, np.int32), "expected the int32 tensors"),
    ],
)
def test_damaged_tables_are_refused(
    tables: EmbeddingTables, name: str, value: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        EmbeddingTables.from_tensors(tables.to_tensors() | {name: value})


def test_a_missing_tensor_is_named(tables: EmbeddingTables) -> None:
    tensors = tables.to_tensors()
    del tensors["mean"]
    with pytest.raises(BundleError, match="lack the tensor 'mean'"):
        EmbeddingTables.from_tensors(tensors)
