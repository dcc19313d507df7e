import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, fit_tables, rate_distortion
from wsicodec.coding.fit import CHUNK, Chunks, karhunen_loeve, measure
from wsicodec.coding.fit_model import to_frequencies
from wsicodec.errors import ConfigError

Grids = list[NDArray[np.float32]]


def test_the_transform_decorrelates(grids: Grids) -> None:
    vectors = Chunks.of(grids).vectors
    transform = karhunen_loeve(vectors)
    covariance = np.cov((vectors - transform.mean) @ transform.basis.T, rowvar=False, bias=True)
    np.testing.assert_allclose(covariance, np.diag(transform.deviations**2), atol=1e-9)
    assert (np.diff(transform.deviations) <= 0).all()


@pytest.mark.parametrize("target", [4.0, 12.0])
def test_a_target_in_bytes_is_met_closely(grids: Grids, target: float) -> None:
    rate = measure(Chunks.of(grids), fit_tables(grids, target_bytes=target)).bytes_per_vector
    assert 0.97 * target <= rate <= target


@pytest.mark.parametrize("target", [0.03, 0.2])
def test_a_target_in_error_is_met_closely(grids: Grids, target: float) -> None:
    error = measure(Chunks.of(grids), fit_tables(grids, target_relative_error=target)).relative_mse
    assert 0.95 * target <= error <= target


def test_components_that_never_leave_zero_are_dropped(grids: Grids) -> None:
    vectors = Chunks.of(grids).vectors
    transform = karhunen_loeve(vectors)
    tables = fit_tables(grids, step=3.0)
    largest = np.abs((vectors - transform.mean) @ transform.basis.T).max(axis=0)
    assert tables.components == (largest / 3.0 >= 0.62).sum()
    assert tables.components < tables.width


def test_neighbours_pay_where_they_resemble_each_other(grids: Grids) -> None:
    placed = fit_tables(grids[:2], step=0.8)
    placeless = fit_tables(Chunks.of(grids[:2]).vectors, step=0.8)
    held_out = Chunks.of(grids[2:])
    assert placed.model.neighbour_weights.max() > 0
    assert placeless.model.neighbour_weights.max() == 0
    rates = [measure(held_out, t).bytes_per_vector for t in (placed, placeless)]
    assert rates[0] < 0.98 * rates[1]


def test_a_repeated_fit_gives_the_same_tables(grids: Grids, tables: EmbeddingTables) -> None:
    assert fit_tables(grids, step=0.8).fingerprint == tables.fingerprint


def test_rate_falls_and_error_rises_with_the_step(grids: Grids) -> None:
    points = rate_distortion(grids[:2], grids[2:], [0.2, 0.5, 1.0])
    rates, errors = [p.bytes_per_vector for p in points], [p.relative_mse for p in points]
    assert rates == sorted(rates, reverse=True)
    assert errors == sorted(errors)
    assert [p.step for p in points] == [0.2, 0.5, 1.0]
    assert all(0.5 < p.cosine < 1 for p in points)


def test_chunks_hold_every_vector_once(rng: np.random.Generator) -> None:
    grid = np.asarray(rng.normal(size=(CHUNK + 3, 2 * CHUNK, 5)), np.float32)
    grid[5:9, 3:40] = 0
    chunks = Chunks.of([grid])
    assert len(chunks.masks) == 4
    assert len(chunks.vectors) == sum(mask.sum() for mask in chunks.masks) == grid.any(2).sum()
    np.testing.assert_array_equal(np.unique(chunks.vectors), np.unique(grid[grid.any(2)]))


def test_placeless_vectors_have_no_neighbours(rng: np.random.Generator) -> None:
    chunks = Chunks.of(rng.normal(size=(700, 5)))
    assert len(chunks.vectors) == 700
    for mask in chunks.masks:
        assert not (mask[1:] & mask[:-1]).any()
        assert not (mask[:, 1:] & mask[:, :-1]).any()


@pytest.mark.parametrize(("count", "vectors"), [(1, 512), (512, 512), (513, 1024), (9999, 1200)])
def test_a_search_looks_at_whole_chunks(rng: np.random.Generator, count: int, vectors: int) -> None:
    few = Chunks.of(rng.normal(size=(1200, 4))).first(count)
    assert len(few.vectors) == sum(mask.sum() for mask in few.masks) == vectors


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_sum_to_their_precision(seed: int) -> None:
    weights = np.random.default_rng(seed).pareto(0.3, size=40)
    frequencies = to_frequencies(weights)
    assert frequencies.sum() == 65536
    assert frequencies.min() >= 1
    free = (frequencies - 1) / (65536 - 40)
    np.testing.assert_allclose(free, weights / weights.sum(), atol=1.1 / 65496)


@pytest.mark.parametrize(
    "targets", [{}, {"step": 1.0, "target_bytes": 9.0}, {"step": 0.0}, {"target_bytes": -1.0}]
)
def test_one_target_is_needed(grids: Grids, targets: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected exactly one of step"):
        fit_tables(grids, **targets)


@pytest.mark.parametrize(
    "embeddings",
    [[], np.ones((5, 3)), np.full((5, 3), np.nan), [np.zeros((2, 2, 3))], np.arange(4.0)[None]],
    ids=["none", "equal", "nan", "blank", "one"],
)
def test_embeddings_to_learn_nothing_from(embeddings: NDArray[np.float64]) -> None:
    with pytest.raises(ConfigError, match="expected finite embeddings that differ"):
        fit_tables(embeddings, step=1.0)


def test_a_step_too_fine_for_the_mean_is_refused() -> None:
    vectors = np.random.default_rng(0).normal(1e6, 1, size=(50, 3))
    with pytest.raises(ConfigError, match="expected a larger step"):
        fit_tables(vectors, step=0.001)
