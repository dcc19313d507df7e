"""Conditions that are made up look like those that are cut from a slide."""

from typing import Any

import numpy as np
import pytest

from wsicodec.coding.fit import fit_tables
from wsicodec.coding.quantizer import EmbeddingTables, dequantize
from wsicodec.models.edm import EdmNetwork
from wsicodec.models.edm_config import EdmConfig, shapes
from wsicodec.synthesis.conditions import conditions

CONFIG = EdmConfig(components=3, width=8, depth=1, heads=1, mlp_ratio=1, octaves=5, window=8)
SCALE = 2.0


class Painter(EdmNetwork):
    """Draws tissue on the left, of one embedding a cell: its row."""

    def clean(self, x: Any, *told: Any) -> Any:
        out = np.zeros_like(x)
        out[..., 0] = np.where(np.arange(x.shape[2]) < 6, 1, -1)
        out[..., 1] = np.arange(x.shape[1])[:, None]
        return out


@pytest.fixture(scope="module")
def tables() -> EmbeddingTables:
    vectors = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    found = fit_tables(vectors, step=0.5)
    kept = found.basis[:3]
    return EmbeddingTables(kept, found.mean, found.step, found.dead_zone, _first(found.model))


def _first(model: Any) -> Any:
    tensors = dict(model.to_tensors())
    for name, value in tensors.items():
        if value.shape[:1] == (model.components,):
            tensors[name] = value[:3]
    return type(model).from_tensors(tensors)


def network() -> Painter:
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["deviation"] += 1
    return Painter(CONFIG, weights, "digest")


@pytest.mark.parametrize(("mag", "repeats"), [(0, 8), (1, 4), (2, 2), (3, 1), (5, 1)])
def test_a_patch_covers_as_many_cells_as_it_does_in_a_slide(
    tables: EmbeddingTables, mag: int, repeats: int
) -> None:
    maps, planes = conditions(network(), tables, SCALE, mag, 4, 12, seed=0)
    assert maps.shape == (12, 7, 4, 4)
    assert maps.dtype == np.float32
    assert len(planes) == 12
    assert maps[:, -1].mean((1, 2)).min() >= 0.5
    side = min(repeats, 4)
    blocks = maps.reshape(12, 7, 4 // side, side, 4 // side, side)
    assert np.ptp(blocks, axis=(3, 5)).max() == 0


def test_vectors_are_the_codecs_own_over_the_scale(tables: EmbeddingTables) -> None:
    maps, _ = conditions(network(), tables, SCALE, 3, 2, 40, seed=0)
    rows = {v.tobytes() for v in maps.transpose(0, 2, 3, 1)[..., :-1].reshape(-1, 6)}
    # A window of 8 with its margins: rows 2 to 9 of the plane are told apart by their place.
    symbols = np.zeros((12, 3), np.int32)
    symbols[:, 0] = np.arange(12)
    known = {v.tobytes() for v in dequantize(symbols, tables) / np.float32(SCALE)}
    assert rows & known


def test_a_model_that_draws_glass_gives_none(tables: EmbeddingTables) -> None:
    class Glass(EdmNetwork):
        def clean(self, x: Any, *told: Any) -> Any:
            return np.full_like(x, -1)

    maps, planes = conditions(Glass(CONFIG, network().weights), tables, 1.0, 3, 4, 5, seed=0)
    assert maps.shape == (0, 7, 4, 4)
    assert planes == []
