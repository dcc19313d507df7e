from itertools import combinations

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics.retrieval import cosines, retrieval_at_1


def test_closed_form_is_the_mean_over_all_choices(rng: np.random.Generator) -> None:
    true, drawn = rng.normal(size=(2, 7, 3))
    drawn += true
    alike = (drawn @ true.T) / np.linalg.norm(true, axis=1)
    found = [
        alike[i, i] > alike[i, list(others)].max()
        for i in range(7)
        for others in combinations([j for j in range(7) if j != i], 3)
    ]
    assert retrieval_at_1(true, drawn, 4) == pytest.approx(np.mean(found), rel=1e-12)


def test_all_found_and_none_found(rng: np.random.Generator) -> None:
    true = rng.normal(size=(9, 16))
    assert retrieval_at_1(true, 3 * true, 9) == 1
    assert retrieval_at_1(true, -true, 9) == 0
    assert cosines(true, 3 * true) == pytest.approx(np.ones(9))


def test_a_tie_is_lost() -> None:
    same = np.ones((4, 2))
    assert retrieval_at_1(same, same, 2) == 0


@pytest.mark.parametrize("among", [1, 10])
def test_choices_that_cannot_be(among: int, rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="among"):
        retrieval_at_1(rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), among)


def test_rows_must_pair_up(rng: np.random.Generator) -> None:
    with pytest.raises(ConfigError, match="one shape"):
        cosines(rng.normal(size=(4, 3)), rng.normal(size=(5, 3)))
    with pytest.raises(ConfigError, match="zeros"):
        cosines(np.zeros((4, 3)), np.ones((4, 3)))
