"""Known damage moves every measure the right way, further than its own interval."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from wsicodec.metrics import degrade
from wsicodec.metrics.bootstrap import Interval, Rows, bootstrap
from wsicodec.metrics.distances import cmmd, frechet_distance, kernel_distance, precision_recall
from wsicodec.metrics.pictures import (
    Pixels,
    block_colour_error,
    cut_patches,
    ms_ssim,
    octave_ratios,
    psnr,
    seam_score,
)
from wsicodec.metrics.retrieval import cosines, retrieval_at_1
from wsicodec.metrics.stains import stain_error

Damage = Callable[[list[Pixels], float], list[Pixels]]
Extract = Callable[[Pixels], np.ndarray]
TILE = 64


def _each(apply: Callable[[Pixels, float, np.random.Generator], Pixels]) -> Damage:
    def damage(fields: list[Pixels], strength: float) -> list[Pixels]:
        return [apply(rgb, strength, np.random.default_rng(i)) for i, rgb in enumerate(fields)]

    return damage


def _swapped(fields: list[Pixels], strength: float) -> list[Pixels]:
    """Tiles change places across all fields; `strength` is the share of tiles that do."""
    tiles = np.concatenate([cut_patches(rgb, TILE) for rgb in fields])
    moving = np.random.default_rng(0).permutation(len(tiles))[: round(strength * len(tiles))]
    tiles[moving] = tiles[np.roll(moving, 1)]
    count = fields[0].shape[0] // TILE
    grid = tiles.reshape(len(fields), count, count, TILE, TILE, 3).swapaxes(2, 3)
    return list(grid.reshape(len(fields), count * TILE, count * TILE, 3))


DAMAGE: dict[str, tuple[Damage, float, float]] = {  # a light and a heavy strength
    "blur": (_each(lambda rgb, s, _: degrade.blur(rgb, s)), 0.4, 2.0),
    "jpeg": (_each(lambda rgb, s, _: degrade.jpeg(rgb, round(s))), 85, 5),
    "noise": (_each(degrade.add_noise), 3, 20),
    "scrambled": (_each(degrade.scramble), 0.5, 2.0),
    "colour": (_each(lambda rgb, s, _: degrade.shift_colour(rgb, s)), 0.03, 0.4),
    "swapped": (_swapped, 0.1, 1.0),
    "seams": (_each(lambda rgb, s, rng: degrade.add_seams(rgb, s, rng, TILE)), 1, 25),
}

DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "frechet": frechet_distance,
    "kernel": kernel_distance,
    "cmmd": cmmd,
    "precision": lambda a, b: precision_recall(a, b)[0],
    "recall": lambda a, b: precision_recall(a, b)[1],
    "cosine": lambda a, b: float(cosines(a - a.mean(0), b - a.mean(0)).mean()),
    "retrieval": lambda a, b: retrieval_at_1(a - a.mean(0), b - a.mean(0), 16),
}
PER_FIELD: dict[str, Callable[[Pixels, Pixels], float]] = {
    "psnr": psnr,
    "energy": lambda a, b: octave_ratios(a, b)["energy_0"],
    "kurtosis": lambda a, b: octave_ratios(a, b)["kurtosis_0"],
    "block colour": block_colour_error,
    "stains": stain_error,
    "seam": lambda _, b: seam_score(b, TILE),
}


def _interval(name: str, fields: list[Pixels], drawn: list[Pixels], extract: Extract) -> Interval:
    if name in PER_FIELD:
        values = np.array([PER_FIELD[name](a, b) for a, b in zip(fields, drawn, strict=True)])
        return bootstrap(lambda rows: float(np.median(values[rows])), range(len(values)))
    sets = [np.concatenate([cut_patches(p, TILE) for p in side]) for side in (fields, drawn)]
    a, b = (extract(tiles) for tiles in sets)
    groups = np.repeat(np.arange(len(fields)), len(a) // len(fields)).tolist()
    return bootstrap(lambda rows: float(DISTANCES[name](a[rows], b[rows])), groups, count=60)


@pytest.mark.parametrize(
    ("kind", "measure", "sign"),
    [
        ("blur", "frechet", 1),
        ("blur", "kernel", 1),
        ("blur", "cmmd", 1),
        ("blur", "precision", -1),
        ("blur", "recall", -1),
        ("blur", "psnr", -1),
        ("blur", "energy", -1),
        ("blur", "cosine", -1),
        ("blur", "retrieval", -1),
        ("jpeg", "frechet", 1),
        ("jpeg", "kernel", 1),
        ("jpeg", "psnr", -1),
        ("noise", "frechet", 1),
        ("noise", "energy", 1),
        ("noise", "kurtosis", -1),
        ("scrambled", "kurtosis", -1),
        ("colour", "frechet", 1),
        ("colour", "cmmd", 1),
        ("colour", "block colour", 1),
        ("colour", "stains", 1),
        ("swapped", "psnr", -1),
        ("swapped", "block colour", 1),
        ("swapped", "cosine", -1),
        ("swapped", "retrieval", -1),
        ("seams", "seam", 1),
        ("seams", "frechet", 1),
        ("seams", "psnr", -1),
    ],
)
def test_damage_moves_the_measure(
    fields: list[Pixels], plain_features: Extract, kind: str, measure: str, sign: int
) -> None:
    damage, light, heavy = DAMAGE[kind]
    before, after = (
        _interval(measure, fields, damage(fields, strength), plain_features)
        for strength in (light, heavy)
    )
    assert sign * (after.value - before.value) > 0
    assert after.apart(before), f"{before} and {after}"


def test_swapped_tiles_leave_the_set_as_it_was(
    fields: list[Pixels], plain_features: Extract
) -> None:
    """A Fréchet distance cannot see order: that is what retrieval is for."""
    a, b = (
        plain_features(np.concatenate([cut_patches(p, TILE) for p in side]))
        for side in (fields, _swapped(fields, 1.0))
    )
    assert frechet_distance(a, b) < 1e-9


def test_scrambling_keeps_energy(fields: list[Pixels]) -> None:
    ratios = [octave_ratios(p, q) for p, q in zip(fields, DAMAGE["scrambled"][0](fields, 2.0))]  # noqa: B905
    assert 0.8 < np.median([r["energy_0"] for r in ratios]) < 1.25


def _median_of(values: NDArray[np.float64]) -> Callable[[Rows], float]:
    return lambda rows: float(np.median(values[rows]))


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["blur", "jpeg", "noise", "swapped"])
def test_damage_moves_ms_ssim(fields: list[Pixels], kind: str) -> None:
    pytest.importorskip("torchmetrics", exc_type=ImportError)
    damage, *strengths = DAMAGE[kind]
    found = []
    for strength in strengths:
        pairs = zip(fields, damage(fields, strength), strict=True)
        values = np.array([ms_ssim(a, b, single=True) for a, b in pairs])
        found.append(bootstrap(_median_of(values), range(len(values))))
    before, after = found
    assert after.value < before.value
    assert after.apart(before), f"{before} and {after}"


@pytest.mark.torch
def test_ms_ssim_falls(fields: list[Pixels]) -> None:
    pytest.importorskip("torchmetrics", exc_type=ImportError)
    scores = [ms_ssim(fields[0], degrade.blur(fields[0], s)) for s in (0.5, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True)
    assert ms_ssim(fields[0], fields[0]) == pytest.approx(1, abs=1e-6)
    quick = [ms_ssim(fields[0], degrade.blur(fields[0], s), single=True) for s in (0.5, 1, 2, 4)]
    # Squares of 255 in single precision are off by 0.01, and what is divided by them is 58.5.
    assert quick == pytest.approx(scores, abs=2e-4)


# Blocks in other places are as wrong at any size.
GRADED = [kind for kind in degrade.KINDS if kind.name != "shuffled"]


@pytest.mark.parametrize("kind", GRADED, ids=lambda kind: kind.name)
def test_stronger_is_further_from_the_truth(
    fields: list[Pixels], kind: degrade.Degradation
) -> None:
    before = fields[0].copy()
    scores = [
        psnr(fields[0], kind.apply(fields[0], s, np.random.default_rng(0))) for s in kind.strengths
    ]
    assert scores == sorted(scores, reverse=True)
    assert np.array_equal(fields[0], before)
