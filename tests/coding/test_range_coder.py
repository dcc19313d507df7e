"""Round trips, and the coder's bytes read back by a reference decoder in Python's integers."""

from dataclasses import replace

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, quantize
from wsicodec.coding.entropy_model import MAX_SYMBOL, EntropyModel
from wsicodec.coding.predictor import diagonals, walk
from wsicodec.coding.range_coder import entropy_decode, entropy_encode
from wsicodec.errors import BitstreamError


def model_of(components: int, reach: int = 3) -> EntropyModel:
    rng = np.random.default_rng(0)
    size = 2 * reach + 2
    frequencies = rng.integers(1, 100, size=(28, 4, size), dtype=np.int32)
    frequencies[:, :, reach] += 65536 - frequencies.sum(axis=2, dtype=np.int32)
    return EntropyModel(
        np.full(components, 300, np.int32), np.full(components, 90, np.int32), frequencies
    )


class ReferenceDecoder:
    """A range decoder in integers of any size, 24-bit probabilities, 32-bit words."""

    def __init__(self, payload: bytes) -> None:
        words: list[int] = np.frombuffer(payload, "<u4").tolist()
        self.words = iter([*words, 0, 0])
        self.point = next(self.words) << 32 | next(self.words)
        self.lower, self.range = 0, 2**64 - 1

    def symbol(self, cumulative: list[int]) -> int:
        """One symbol under cumulative frequencies of 16 bits."""
        scale = self.range >> 24
        quantile = ((self.point - self.lower) % 2**64) // scale
        symbol = [256 * c > quantile for c in cumulative[1:]].index(True)
        self.lower = (self.lower + scale * 256 * cumulative[symbol]) % 2**64
        self.range = scale * 256 * (cumulative[symbol + 1] - cumulative[symbol])
        if self.range < 2**32:
            self.lower, self.range = self.lower << 32 & 2**64 - 1, self.range << 32
            self.point = self.point << 32 & 2**64 - 1 | next(self.words, 0)
        return symbol


def test_the_bytes_mean_our_integer_frequencies(
    tables: EmbeddingTables, grid: NDArray[np.float32], valid: NDArray[np.bool_]
) -> None:
    symbols = quantize(grid[valid], tables)
    model = tables.model
    cumulative = np.cumsum(model.frequencies.reshape(112, -1), axis=1)
    bounds = [[0, *row] for row in cumulative.tolist()]
    decoder = ReferenceDecoder(entropy_encode(symbols, valid, model))
    for rows, residuals in walk(symbols, valid, model):
        assert np.abs(residuals).max() <= model.reach
        for row, residual in zip(rows.ravel().tolist(), residuals.ravel().tolist(), strict=True):
            assert decoder.symbol(bounds[row]) - model.reach == residual


@given(
    valid=arrays.arrays(bool, arrays.array_shapes(min_dims=2, max_dims=2, max_side=6)),
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0, 1, 3, 1000, MAX_SYMBOL]),
)
def test_round_trip(valid: NDArray[np.bool_], seed: int, spread: int) -> None:
    model = model_of(4)
    rng = np.random.default_rng(seed)
    count = int(valid.sum())
    symbols = rng.integers(-spread, spread + 1, size=(count, 4), dtype=np.int32)
    payload = entropy_encode(symbols, valid, model)
    np.testing.assert_array_equal(entropy_decode(payload, valid, model), symbols)


@pytest.mark.parametrize("extreme", [MAX_SYMBOL, -MAX_SYMBOL, 4, -4, 5])
def test_escapes_of_every_length(extreme: int) -> None:
    model, valid = model_of(1), np.ones((1, 24), bool)
    symbols = np.array([[extreme >> n] for n in range(24)], np.int32)
    payload = entropy_encode(symbols, valid, model)
    np.testing.assert_array_equal(entropy_decode(payload, valid, model), symbols)


def test_rows_of_a_diagonal_share_one_order() -> None:
    valid = np.ones((2, 2), bool)
    assert [part.tolist() for part in diagonals(valid)] == [[0], [1, 2], [3]]


def test_a_payload_of_broken_words_is_refused() -> None:
    with pytest.raises(BitstreamError, match="not whole 32-bit words"):
        entropy_decode(b"abc", np.ones((1, 1), bool), model_of(1))


def test_left_over_bytes_are_refused() -> None:
    model, valid = model_of(1), np.ones((1, 1), bool)
    payload = entropy_encode(np.zeros((1, 1), np.int32), valid, model)
    with pytest.raises(BitstreamError, match="left over"):
        entropy_decode(payload + b"12345678", valid, model)


@given(payload=st.binary(min_size=4, max_size=64).map(lambda b: b[: len(b) // 4 * 4]))
def test_noise_decodes_to_symbols_within_limits_or_is_refused(payload: bytes) -> None:
    valid = np.ones((3, 3), bool)
    try:
        symbols = entropy_decode(payload, valid, model_of(2))
    except BitstreamError:
        return
    assert symbols.shape == (9, 2)
    assert np.abs(symbols).max() <= MAX_SYMBOL


def test_all_tables_of_a_model_are_used_as_they_are() -> None:
    model = model_of(1)
    weights = model.coder_weights
    np.testing.assert_array_equal(weights.sum(axis=1), 2**24 - weights.shape[1])
    np.testing.assert_array_equal((weights + 1) / 256, model.frequencies.reshape(112, -1))
    swapped = replace(model, frequencies=model.frequencies[:, ::-1].copy())
    valid, symbols = np.ones((2, 2), bool), np.array([[1], [0], [2], [0]], np.int32)
    assert entropy_encode(symbols, valid, model) != entropy_encode(symbols, valid, swapped)
