"""Novel grids: functions of their seed, of the octave above, and of the model's statistics."""

from typing import Any

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.models.edm import EdmNetwork
from wsicodec.models.edm_config import OUTLINE, EdmConfig, shapes
from wsicodec.synthesis.grid import (
    coarsest,
    draw_grid,
    draw_octave,
    noise_key,
    octave_shape,
)

CONFIG = EdmConfig(components=3, width=8, depth=1, heads=1, mlp_ratio=1, octaves=3, window=8)
KEY = noise_key(0, "")


def network(**changes: float) -> EdmNetwork:
    """Weights of zero but for those that are named; the outline is then a coin's toss a cell."""
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["deviation"] += 2
    for name, value in changes.items():
        weights[name] = weights[name] + np.float32(value)
    return EdmNetwork(CONFIG, weights, "digest")


def test_one_seed_gives_one_grid_and_another_seed_another() -> None:
    first = draw_grid(network(), (12, 20), 5, steps=2)
    again = draw_grid(network(), (12, 20), 5, steps=2)
    other = draw_grid(network(), (12, 20), 6, steps=2)
    assert first.tissue.shape == (12, 20)
    assert first.symbols.shape == (first.tissue.sum(), 3)
    np.testing.assert_array_equal(first.tissue, again.tissue)
    np.testing.assert_array_equal(first.symbols, again.symbols)
    assert not np.array_equal(first.tissue, other.tissue)


def test_symbols_have_the_models_mean_and_deviation() -> None:
    grid = draw_grid(network(mean=7), (24, 24), 0, steps=8)
    # A flow from standard noise through a Gaussian's answers ends at unit variance; of 288 cells
    # or so with 3 components the mean is within 5 standard errors of 2 / sqrt(864).
    assert abs(grid.symbols.mean() - 7) < 5 * 2 / 864**0.5
    assert 1.6 < grid.symbols.std() < 2.4


def test_the_model_decides_where_tissue_is() -> None:
    class Half(EdmNetwork):
        def clean(self, x: Any, *told: Any) -> Any:
            out = np.zeros_like(x)
            out[..., 0] = np.where(np.arange(x.shape[2]) < 4, 1, -1)
            return out

    drawn = draw_octave(Half(CONFIG, network().weights), (8, 8), 0, KEY, None, steps=2)
    assert set(np.unique(drawn[..., 0])) == {-1, 1}
    assert not drawn[drawn[..., 0] < 0][:, 1:].any()


def test_every_octave_is_told_of_the_one_above() -> None:
    told: list[tuple[int, int, bool]] = []

    class Curious(EdmNetwork):
        def clean(self, x: Any, *given: Any) -> Any:
            _, phase, octave, parent, _ = given
            told.append((octave, phase, parent is not None))
            return super().clean(x, *given)

    draw_grid(Curious(CONFIG, network().weights), (20, 9), 0, steps=1)
    assert [(o, above) for o, p, above in told if p == OUTLINE][:1] == [(2, False)]
    assert {(o, above) for o, _, above in told} == {(2, False), (1, True), (0, True)}


def test_the_first_octave_fits_a_window() -> None:
    assert [coarsest(shape, network()) for shape in ((8, 8), (9, 3), (16, 16), (99, 2))] == [
        0,
        1,
        1,
        2,
    ]
    assert octave_shape((9, 3), 1) == (5, 2)


def test_a_cell_is_the_same_in_a_larger_grid_where_windows_agree() -> None:
    small = draw_octave(network(), (8, 8), 0, KEY, None, steps=2)
    large = draw_octave(network(), (24, 24), 0, KEY, None, steps=2)
    both = (small[..., 0] > 0) & (large[:8, :8, 0] > 0)
    assert both.any()
    np.testing.assert_allclose(small[both], large[:8, :8][both], atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 4), (300, 300)])
def test_grids_without_cells_or_with_too_many_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected a grid of 1 to 65536 patches"):
        draw_grid(network(), shape, 0)


def test_progress_counts_octaves() -> None:
    calls: list[tuple[int, int, str]] = []
    draw_grid(network(), (9, 9), 0, 1, lambda *call: calls.append(call))
    assert calls == [(1, 2, "octaves"), (2, 2, "octaves")]
