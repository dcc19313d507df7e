"""The product quantiser that the range coder is measured against."""

from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch")  # the package's other modules need it

from wsicodec.train.product_quantizer import CENTROIDS, ProductQuantizer, group_ends


def vectors(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    strengths = np.geomspace(8, 0.1, 24)
    turn = np.linalg.qr(rng.standard_normal((24, 24)))[0]
    points = np.random.default_rng(seed + 1).standard_normal((count, 24)) * strengths
    return np.asarray(points @ turn + 3, np.float32)


def test_longer_prefixes_come_closer() -> None:
    fit, test = vectors(3000)[:2500], vectors(3000)[2500:]
    quantizer = ProductQuantizer.fit(fit, 8)
    errors = [float(np.square(quantizer.through(test, n) - test).mean()) for n in range(9)]
    assert all(b < a for a, b in pairwise(errors))
    assert errors[0] == pytest.approx(float(test.var(0).mean()), rel=0.05)
    assert errors[8] < 0.05 * errors[0]


def test_few_distinct_vectors_come_back_as_they_were() -> None:
    few = np.repeat(vectors(CENTROIDS // 4), 8, axis=0)
    back = ProductQuantizer.fit(few, 4).through(few, 4)
    assert np.square(back - few).mean() < 0.05 * few.var(0).mean()


@pytest.mark.parametrize("count", [1, 5, 24])
def test_groups_take_every_byte_and_at_least_one_component(count: int) -> None:
    ends = group_ends(np.geomspace(1, 1e-9, 24), count)
    assert len(ends) == count
    assert all(b > a for a, b in pairwise([0, *ends]))
    assert ends[-1] <= 24
