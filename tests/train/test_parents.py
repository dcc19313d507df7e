"""Parents are what a reader has: coded where stored, drawn where drawn, else spoilt."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.geometry import LEVELS  # noqa: E402
from wsicodec.train.data import Pixels, Window  # noqa: E402
from wsicodec.train.parents import ParentConfig, draw_parent  # noqa: E402
from wsicodec.train.variants import Variant  # noqa: E402

pytestmark = pytest.mark.torch

SIDE = 512
CODED, DRAWN = 50, 80  # colours that tell where a parent comes from; odd levels one brighter
WHOLE = {"none": 0.0, "none_coarse": 0.0, "plain": 0.0}


def plain(level: int, colour: int) -> Pixels:
    return np.full((SIDE >> level, SIDE >> level, 3), colour + level % 2, np.uint8)


@pytest.fixture
def variant() -> Variant:
    levels = [plain(level, 200) for level in range(LEVELS)]
    latents = [np.zeros((SIDE >> k + 3, SIDE >> k + 3, 1), np.float16) for k in range(3)]
    coded = {level: plain(level, CODED) for level in (1, 2)}
    drawn = {level: plain(level, DRAWN) for level in (1, 2)}
    tissue = np.ones((SIDE // 32, SIDE // 32), np.float32)
    return Variant(Path(), "s", "slide", 0, latents, levels, coded, drawn, tissue)


def colours_of(variant: Variant, level: int, **shares: float) -> list[float]:
    """The mean colours of parents of windows of `level`, drawn 200 times."""
    config = ParentConfig(**(WHOLE | shares))
    window = Window(0, level, 64, 64, 64)
    found = [
        draw_parent(np.random.default_rng(seed), variant, window, config) for seed in range(200)
    ]
    return [float(np.median(f)) for f in found if f is not None]


@pytest.mark.parametrize(
    ("level", "shares", "colour"),
    [
        (0, {"stored": 1.0, "drawn": 0.0}, CODED + 1),
        (0, {"stored": 0.0, "drawn": 1.0}, DRAWN + 1),
        (1, {"drawn_anchor": 0.0}, CODED),
        (1, {"drawn_anchor": 1.0}, DRAWN),
    ],
)
def test_parents_come_from_where_a_reader_has_them(
    variant: Variant, level: int, shares: dict[str, float], colour: int
) -> None:
    assert set(colours_of(variant, level, **shares)) == {colour}


def test_shares_of_parents_are_those_asked_for(variant: Variant) -> None:
    found = np.array(colours_of(variant, 0, stored=0.3, drawn=0.5))
    for colour, share in ((CODED + 1, 0.3), (DRAWN + 1, 0.5)):
        # Four deviations of a binomial share of 200.
        assert abs((found == colour).mean() - share) < 4 * (share * (1 - share) / 200) ** 0.5


def test_what_was_never_drawn_is_as_the_codec_leaves_it(variant: Variant) -> None:
    variant.drawn.clear()
    assert set(colours_of(variant, 1, drawn_anchor=1.0)) == {CODED}


def test_parents_above_the_anchor_are_neither(variant: Variant) -> None:
    found = colours_of(variant, 3, drawn=1.0, drawn_anchor=1.0, stored=1.0, sketched=0.0, noise=0.0)
    assert set(np.rint(found)) == {200}
