"""Distances against closed forms, against brute force, and against two libraries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics import distances
from wsicodec.metrics.distances import (
    Gaussian,
    cmmd,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    precision_recall,
)

Sets = tuple[np.ndarray, np.ndarray]
RELATIVE = 1e-6


@pytest.fixture(params=[(400, 24), (40, 24)], ids=["many", "few"])
def sets(request: pytest.FixtureRequest, rng: np.random.Generator) -> Sets:
    """Two sets of more rows than columns, unlike in mean, spread and count."""
    n, d = request.param
    mix = rng.normal(size=(d, d))
    return rng.normal(size=(n, d)) @ mix, rng.normal(0.3, 1.5, size=(n - 7, d)) @ mix.T


def test_two_normal_laws_by_hand() -> None:
    """Diagonal covariances: the sum of squared differences of means and of deviations."""
    means, spreads = np.array([[0.0, 1], [2, 1]]), np.array([[1.0, 3], [2, 5]])
    laws = [Gaussian(m, np.diag(s)) for m, s in zip(means, spreads, strict=True)]
    assert gaussian_distance(laws[0], laws[1]) == pytest.approx(4 + 1 + 4, rel=1e-12)


def test_a_turned_law() -> None:
    """Covariances diag(9, 1) and diag(1, 9): 2 * 10 - 2 * (3 + 3)."""
    laws = [Gaussian(np.zeros(2), np.diag(s)) for s in ([3.0, 1.0], [1.0, 3.0])]
    assert gaussian_distance(laws[0], laws[1]) == pytest.approx(8, rel=1e-12)


def test_a_shift_alone_with_fewer_rows_than_columns(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(5, 64))
    assert frechet_distance(rows, rows + 0.25) == pytest.approx(64 * 0.25**2, rel=1e-9)


def test_a_scaled_set_with_fewer_rows_than_columns(rng: np.random.Generator) -> None:
    """Scaling deviations by s changes each singular value: the distance is (1 - s)^2 tr S."""
    rows = rng.normal(size=(6, 50))
    rows -= rows.mean(0)
    trace = np.square(rows).sum() / 5
    assert frechet_distance(rows, 1.7 * rows) == pytest.approx(0.49 * trace, rel=1e-9)


def test_sets_in_planes_that_do_not_meet(rng: np.random.Generator) -> None:
    """Orthogonal supports share nothing: the two traces add up."""
    a, b = np.zeros((2, 4, 30))
    a[:, :10], b[:, 10:20] = rng.normal(size=(2, 4, 10))
    a, b = a - a.mean(0), b - b.mean(0)
    assert frechet_distance(a, b) == pytest.approx((np.square(a).sum() + np.square(b).sum()) / 3)


def test_frechet_distance_is_zero_for_itself_and_grows(rng: np.random.Generator) -> None:
    rows = rng.normal(size=(30, 100))
    scale = np.square(rows).sum() / 29
    near, far = (frechet_distance(rows, rows + rng.normal(0, s, rows.shape)) for s in (0.1, 1))
    assert frechet_distance(rows, rows[::-1]) < 1e-12 * scale
    assert near < far


def by_formula() -> Sets:
    """Two sets that need no generator, so that a figure of another library can be kept."""
    row, column = np.arange(1, 91)[:, None], np.arange(1, 9)
    true = np.sin(row * column * 0.37) + 0.5 * np.cos(row**2 * 0.11 + column)
    drawn = 0.2 + 1.3 * np.sin(row * column * 0.53 + 1) + 0.3 * np.cos(row * 0.7 * column**2)
    return true, drawn


def test_distances_are_torch_fidelity_s() -> None:
    """Its figures are kept, with how they were made: it needs torchvision to be installed."""
    kept = json.loads(Path(__file__).with_name("torch_fidelity.json").read_text("utf-8"))
    true, drawn = by_formula()
    assert frechet_distance(true, drawn) == pytest.approx(kept["frechet"], rel=RELATIVE)
    assert kernel_distance(true, drawn) == pytest.approx(kept["kernel"], rel=RELATIVE)
    expected = kept["precision"], kept["recall"]
    # Its shares are float32.
    assert precision_recall(true, drawn) == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.torch
def test_frechet_distance_is_torchmetrics(sets: Sets) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("torchmetrics.image.fid", exc_type=ImportError)
    given = []
    for rows in sets:
        given += [torch.from_numpy(rows.mean(0)), torch.from_numpy(np.cov(rows.T))]
    theirs = float(library._compute_fid(*given))
    assert frechet_distance(*sets) == pytest.approx(theirs, rel=RELATIVE)


def test_kernel_distance_by_brute_force(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(5, 3)), rng.normal(0.5, 1, size=(7, 3))

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        pairs = [(p @ q / 3 + 1) ** 3 for p in x for q in y if p is not q]
        return float(np.mean(pairs))

    rows_a, rows_b = list(a), list(b)
    expected = mean(rows_a, rows_a) + mean(rows_b, rows_b) - 2 * mean(rows_a, rows_b)  # type: ignore[arg-type]
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-10)


def test_kernel_distance_has_no_bias(rng: np.random.Generator) -> None:
    """Halves of one law: the mean of many draws is zero within four of its standard errors."""
    draws = [kernel_distance(*rng.normal(size=(2, 12, 4))) for _ in range(400)]
    assert abs(np.mean(draws)) < 4 * np.std(draws) / 20
    assert min(draws) < 0


@pytest.mark.torch
def test_kernel_distance_is_torchmetrics(sets: Sets) -> None:
    torch = pytest.importorskip("torch")
    library = pytest.importorskip("torchmetrics.image.kid", exc_type=ImportError)
    count = min(map(len, sets))
    a, b = (rows[:count] for rows in sets)
    theirs = float(library.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)))
    assert kernel_distance(a, b) == pytest.approx(theirs, rel=RELATIVE)


def test_cmmd_by_brute_force(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(6, 4)), rng.normal(1, 1, size=(5, 4))
    a, b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.exp(-np.square(p - q).sum() / 2) for p in x for q in y]))

    expected = 7 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))
    assert cmmd(3 * a, b, sigma=1.0, scale=7.0) == pytest.approx(expected, rel=1e-10)
    assert cmmd(a, a) == pytest.approx(0, abs=1e-9)


def test_precision_and_recall_by_hand() -> None:
    """On a line, one neighbour: true balls cover 0..2 and 9..11; drawn ones 1..3 and 29..31."""
    true = np.array([[0.0], [1], [1.9], [10], [11]])
    drawn = np.array([[1.5], [2.5], [30.0], [30.5]])
    assert precision_recall(true, drawn, neighbours=1) == (2 / 4, 2 / 5)


def test_a_codec_that_repeats_itself_has_precision_but_no_recall(rng: np.random.Generator) -> None:
    true = rng.normal(size=(200, 3))
    drawn = 0.01 * rng.normal(size=(200, 3))
    precision, recall = precision_recall(true, drawn)
    assert precision > 0.95
    assert recall < 0.05


def test_parts_of_a_matrix_of_pairs_add_up(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = rng.normal(size=(2, 50, 4))
    measures: list[Callable[..., Any]] = [kernel_distance, cmmd, precision_recall]
    whole = [measure(a, b) for measure in measures]
    monkeypatch.setattr(distances, "ROWS", 7)
    for measure, expected in zip(measures, whole, strict=True):
        assert measure(a, b) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3))),
        (np.zeros((4, 3)), np.zeros((4, 2))),
        (np.zeros(4), np.zeros(4)),
        (np.full((4, 3), np.nan), np.zeros((4, 3))),
    ],
    ids=["one row", "widths", "no matrix", "not a number"],
)
def test_what_cannot_be_compared_is_refused(a: np.ndarray, b: np.ndarray) -> None:
    for measure in (frechet_distance, kernel_distance, precision_recall):
        with pytest.raises(ConfigError, match="expected"):
            measure(a, b)


def test_rows_of_zeros_have_no_direction() -> None:
    with pytest.raises(ConfigError, match="zeros"):
        cmmd(np.zeros((4, 3)), np.ones((4, 3)))
