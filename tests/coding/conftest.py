"""Tables small enough to fit in a blink, and grids that look a little like tissue."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.coding import EmbeddingTables, fit_tables

WIDTH = 24


def smooth_grid(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """A grid (gh, gw, 24) whose neighbours resemble each other and whose variances fall."""
    noise = rng.normal(size=(shape[0] + 2, shape[1] + 2, WIDTH))
    noise = noise[:-2, 1:-1] + noise[1:-1, :-2] + 2 * noise[1:-1, 1:-1]
    mixed = noise * np.arange(1, WIDTH + 1) ** -0.6
    rotation = np.linalg.qr(np.random.default_rng(7).normal(size=(WIDTH, WIDTH)))[0]
    return np.asarray(mixed @ rotation + 0.4, np.float32)


@pytest.fixture(scope="session")
def grids() -> list[NDArray[np.float32]]:
    """Training grids."""
    generator = np.random.default_rng(1)
    return [smooth_grid(generator, (24, 24)) for _ in range(3)]


@pytest.fixture(scope="session")
def tables(grids: list[NDArray[np.float32]]) -> EmbeddingTables:
    """Tables at about ten bytes a vector."""
    return fit_tables(grids, step=0.8)


@pytest.fixture(scope="session")
def other_tables(tables: EmbeddingTables) -> EmbeddingTables:
    """Tables that differ in one bit of the mean."""
    return replace(tables, mean=tables.mean ^ np.eye(1, WIDTH, dtype=np.int32)[0])


@pytest.fixture
def grid() -> NDArray[np.float32]:
    """A grid (9, 7, 24) that no table was fitted to."""
    return smooth_grid(np.random.default_rng(2), (9, 7))


@pytest.fixture
def valid() -> NDArray[np.bool_]:
    """Two thirds of a (9, 7) grid."""
    return np.random.default_rng(3).random((9, 7)) < 2 / 3
