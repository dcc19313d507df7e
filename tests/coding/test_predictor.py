import math

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, encode_grid, estimated_bits, quantize
from wsicodec.coding.entropy_model import EntropyModel
from wsicodec.coding.predictor import Predictor, diagonals, walk


def test_diagonals_visit_every_valid_cell_once_after_its_neighbours(
    valid: NDArray[np.bool_],
) -> None:
    parts = diagonals(valid)
    y, x = np.nonzero(valid)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    sums = [set((y + x)[part]) for part in parts]
    assert [len(s) for s in sums] == [1] * len(sums)
    assert sums == sorted(sums, key=min)
    assert all((np.diff(y[part]) > 0).all() for part in parts)


def test_a_grid_without_valid_cells_has_no_diagonals() -> None:
    assert diagonals(np.zeros((3, 4), bool)) == []


def plain_prediction(
    grid: dict[tuple[int, int], int], order: list[list[tuple[int, int]]], prior: int, weight: int
) -> list[tuple[int, int]]:
    """Row and base of one component's symbols, written as the specification reads."""
    errors: dict[tuple[int, int], int] = {}
    seen: list[tuple[int, int]] = []
    result: list[tuple[int, int]] = []
    for diagonal in order:
        n = len(seen) + 8
        mean = 256 * sum([grid[c] for c in seen]) // n
        scale = (8 * prior + sum([errors[c] for c in seen])) // n
        for y, x in diagonal:
            known = [c for c in ((y, x - 1), (y - 1, x)) if c in grid]
            expected, magnitude = mean, scale
            if known:
                first, last = known[0], known[-1]
                near = 128 * (grid[first] + grid[last])
                expected = mean + weight * (near - mean) // 256
                magnitude = scale + 3 * ((errors[first] + errors[last]) // 2 - scale) // 8
            errors[y, x] = abs(256 * grid[y, x] - expected)
            base = (expected + 128) // 256
            phase = (expected + 128 - 256 * base) // 64
            q = sum(math.isqrt(2 ** (q + 4)) <= magnitude for q in range(27))
            result.append((4 * q + phase, base))
        seen += diagonal
    return result


def test_predictions_follow_the_specification(valid: NDArray[np.bool_]) -> None:
    rng = np.random.default_rng(5)
    frequencies = np.full((28, 4, 32), 2048, np.int32)
    model = EntropyModel(
        np.array([40, 700, 3000], np.int32), np.array([0, 100, 256], np.int32), frequencies
    )
    symbols = np.rint(rng.normal(2, [0.3, 3, 40], size=(int(valid.sum()), 3))).astype(np.int32)
    y, x = np.nonzero(valid)
    order = [[(int(y[n]), int(x[n])) for n in part] for part in diagonals(valid)]
    walked = list(walk(symbols, valid, model))
    numbers = np.concatenate(diagonals(valid))
    rows = np.concatenate([rows for rows, _ in walked])
    bases = symbols[numbers] - np.concatenate([residuals for _, residuals in walked])
    for i in range(3):
        grid = {(int(a), int(b)): int(s) for a, b, s in zip(y, x, symbols[:, i], strict=True)}
        prior, weight = int(model.prior_magnitudes[i]), int(model.neighbour_weights[i])
        expected = plain_prediction(grid, order, prior, weight)
        assert list(zip(rows[:, i], bases[:, i], strict=True)) == expected


def test_the_predictor_returns_what_it_learnt(valid: NDArray[np.bool_]) -> None:
    model = EntropyModel(
        np.array([256], np.int32), np.array([9], np.int32), np.full((28, 4, 32), 2048, np.int32)
    )
    symbols = np.arange(valid.sum(), dtype=np.int32)[:, None]
    predictor = Predictor(valid, model)
    for numbers in diagonals(valid):
        predictor.predict(numbers)
        predictor.learn(numbers, symbols[numbers].astype(np.int64))
    np.testing.assert_array_equal(predictor.symbols(), symbols)


@pytest.mark.parametrize("scale", [1.0, 8.0, 100.0])
def test_the_estimate_agrees_with_the_real_rate(
    tables: EmbeddingTables, grids: list[NDArray[np.float32]], scale: float
) -> None:
    grid = grids[1] * scale
    everywhere = np.ones(grid.shape[:2], bool)
    symbols = quantize(grid.reshape(-1, tables.width), tables)
    estimate = estimated_bits(symbols, everywhere, tables.model) / 8
    real = len(encode_grid(grid, everywhere, tables)) - 30
    # The coder ends on a 32-bit word and spends at most two to close.
    assert estimate - 1 <= real <= 1.001 * estimate + 12
