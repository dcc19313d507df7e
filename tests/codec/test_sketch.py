"""The sketch: a function of store and place, and the parent of what networks draw."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.codec.kit import info_of
from wsicodec.codec.draw import Window
from wsicodec.codec.plan import MARGIN, plan_region
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.codec.region import Fetched, RegionJob
from wsicodec.codec.region_device import Screen, run_kept
from wsicodec.codec.sketch import Sketcher, load_sketcher
from wsicodec.codec.state import TileBoard
from wsicodec.coding.images import ImageFormat
from wsicodec.config import BLANK, GENERATED, MEASURED
from wsicodec.diffusion.noise import GRAIN, noise_field
from wsicodec.errors import BundleError, GeneratedPixelsError
from wsicodec.geometry import PATCH, Region, level_shape
from wsicodec.models.bundle import load_bundle
from wsicodec.models.sketch import LEVEL, SIDE, Sketch
from wsicodec.models.stain_colours import StainColours
from wsicodec.resample import box_reduce

GRID = (40, 70)  # patches: the last row and the last column are cut
SHAPE = (GRID[0] * PATCH - 100, GRID[1] * PATCH - 60)
WIDTH = 16
GLASS = (240, 230, 235)
CHUNK = 8  # patches a side of a chunk of embeddings
Pixels = NDArray[np.uint8]


def make_sketcher() -> Sketcher:
    rng = np.random.default_rng(3)
    inverse = rng.normal(0, 0.15, (14, 14)).astype(np.float32)
    inverse[:, 5:] *= 0.1
    centre = np.zeros(14, np.float32)
    centre[:3] = 0.5, 0.8, 0.6
    centre[8:] = -9
    return Sketcher(Sketch(StainColours(centre, inverse, "0" * 64)))


class Bench:
    """A slide of embeddings alone, with a strip of glass, whose networks show their parent."""

    def __init__(self, sketcher: Sketcher, tissue: Pixels | None = None) -> None:
        self.sketcher = sketcher
        if tissue is None:
            tissue = np.full(GRID, GENERATED, np.uint8)
            tissue[:, 20:26] = BLANK
        vectors = np.random.default_rng(4).normal(size=(*GRID, WIDTH)).astype(np.float32)
        self.grid = vectors * (tissue != BLANK)[..., None]
        sketch = {LEVEL: sketcher.sketch.digest}
        slide = "0123456789abcdef" * 2
        info = info_of(SHAPE, slide=slide, sketch=sketch, background=GLASS)
        self.record = SlideRecord(info, tissue, (CHUNK, CHUNK), {}, None)
        self.roi: Pixels | None = None
        self.windows: list[Window] = []

    def draw(self, windows: list[Window]) -> list[Pixels]:
        """What each window is shown of its parent under the tile, twice enlarged."""
        self.windows += windows
        parents = [w.parent[16:-16, 16:-16] for w in windows if w.parent is not None]
        return [p.repeat(2, 0).repeat(2, 1) for p in parents]

    def job(self, level: int, region: Region, screen: Screen | None = None) -> RegionJob:
        plan = plan_region(self.record, level, region, lambda _: None)
        fetched = Fetched(roi={} if self.roi is None else dict.fromkeys(plan.roi, self.roi))
        for i, j in plan.embeddings:
            part = self.grid[i * CHUNK : (i + 1) * CHUNK, j * CHUNK : (j + 1) * CHUNK]
            fetched.embeddings[i, j] = part
        return RegionJob(
            self.record,
            plan,
            fetched,
            WIDTH,
            1.0,
            self.draw,
            1,
            ThreadPoolExecutor(2),
            TileBoard(1 << 30),
            lambda tile: tile,
            screen=screen,
            sketcher=self.sketcher,
        )

    def read(self, level: int, region: Region | None = None) -> Pixels:
        region = region or Region(0, 0, *level_shape(SHAPE, level))
        return self.job(level, region).run(level, region)


@pytest.fixture(scope="module")
def sketcher() -> Sketcher:
    return make_sketcher()


@pytest.fixture(scope="module")
def whole(sketcher: Sketcher) -> Pixels:
    """Level 5."""
    return Bench(sketcher).read(5)


@pytest.mark.parametrize(
    "region",
    [Region(0, 0, 9, 9), Region(200, 200, 300, 330), Region(240, 100, 270, 555)],
    ids=["corner", "four tiles", "last row and column"],
)
def test_pieces_are_the_whole_bit_for_bit(
    sketcher: Sketcher, whole: Pixels, region: Region
) -> None:
    region = region.clip(whole.shape[:2])
    np.testing.assert_array_equal(Bench(sketcher).read(5, region), whole[region.slices()])


def test_regions_that_overlap_agree(sketcher: Sketcher) -> None:
    a, b = Region(100, 40, 300, 300), Region(220, 210, 310, 400)
    both = a.intersect(b)
    one, other = (Bench(sketcher).read(5, r)[both.slices((r.y0, r.x0))] for r in (a, b))
    np.testing.assert_array_equal(one, other)
    assert one.std() > 5


def test_tiles_meet_as_if_the_sketch_had_been_made_at_once(
    sketcher: Sketcher, whole: Pixels
) -> None:
    bench = Bench(sketcher)
    inside = np.pad(bench.grid, ((MARGIN,) * 2,) * 2 + ((0, 0),), mode="edge")
    place = Region(0, 0, *GRID).grow(MARGIN).scale_up(SIDE)
    grain = noise_field(bench.record.info.slide, GRAIN, place, 1)[0]
    tissue = np.asarray(inside.any(axis=-1))
    once = sketcher.sketch.draw(inside, tissue, grain, GLASS)
    once = once[MARGIN * SIDE :, MARGIN * SIDE :][: whole.shape[0], : whole.shape[1]]
    # Sums of the matrix product in another order may turn a rounding.
    assert np.abs(once.astype(int) - whole).max() <= 1
    assert (once != whole).mean() < 1e-3


@pytest.mark.parametrize("level", [6, 7])
def test_levels_above_are_the_sketch_reduced(sketcher: Sketcher, whole: Pixels, level: int) -> None:
    shown = Bench(sketcher).read(level)
    height, width = (n >> (level - 5) for n in whole.shape[:2])
    reduced = box_reduce(whole, 1 << (level - 5))
    np.testing.assert_array_equal(shown[:height, :width], reduced[:height, :width])
    assert shown.shape[:2] == level_shape(SHAPE, level)


def test_glass_has_the_slides_own_colour(whole: Pixels) -> None:
    assert (whole[:, 22 * 8 : 24 * 8] == GLASS).all()
    assert whole[:, :160].std() > 10


def test_finer_levels_are_drawn_from_it_and_it_costs_no_window(
    sketcher: Sketcher, whole: Pixels
) -> None:
    bench, region = Bench(sketcher), Region(300, 530, 310, 900)
    shown = bench.read(4, region)
    assert {w.level for w in bench.windows} == {4}
    np.testing.assert_array_equal(shown[::2, ::2], whole[150:155, 265:450])
    first = next(w for w in bench.windows if (w.ty, w.tx) == (1, 2))
    assert first.parent is not None
    np.testing.assert_array_equal(first.parent, whole[112:272, 240:400])
    bench.windows.clear()
    bench.read(6, Region(0, 0, 40, 40))
    assert not bench.windows


def test_a_plan_fetches_what_lies_under_its_tiles_and_beside_them(sketcher: Sketcher) -> None:
    record = Bench(sketcher).record
    plan = plan_region(record, 5, Region(0, 0, 4, 4), lambda _: None)
    wanted = {(i, j) for i in range(5) for j in range(5)}  # of a tile of 32 x 32 and a margin
    assert plan.embeddings == wanted
    assert plan.missing == {5: [(5, 0, 0)]}
    everything = plan_region(record, 7, Region(0, 0, 4, 4), lambda _: None)
    assert everything.embeddings == {(i, j) for i in range(5) for j in range(9)}


def test_what_is_generated_is_refused_at_every_level(sketcher: Sketcher) -> None:
    tissue = np.full(GRID, BLANK, np.uint8)
    tissue[33, 1] = GENERATED
    bench = Bench(sketcher, tissue)
    for level in (5, 6, 7):
        y = 34 * PATCH - 10 >> level
        with pytest.raises(GeneratedPixelsError, match="allow_generated"):
            plan_region(
                bench.record, level, Region(y, 0, y + 1, 1), lambda _: None, allow_generated=False
            )
    plan_region(bench.record, 5, Region(0, 0, 200, 500), lambda _: None, allow_generated=False)
    blank = Bench(sketcher, np.full(GRID, BLANK, np.uint8))
    assert not plan_region(
        blank.record, 7, Region(0, 0, 9, 9), lambda _: None, allow_generated=False
    ).embeddings
    assert (blank.read(6) == GLASS).all()


def test_what_was_kept_lies_over_it(sketcher: Sketcher, whole: Pixels) -> None:
    bench = Bench(sketcher)
    kept = Region(0, 0, 1024, 2048)
    rng = np.random.default_rng(5)
    bench.roi = rng.integers(0, 256, (2048, 2048, 3), np.uint8)
    tissue = bench.record.tissue.copy()
    tissue[:4, :8] = MEASURED
    info = replace(bench.record.info, roi=((kept.y0, kept.x0, kept.y1, kept.x1),))
    array = ImageArray("roi", SHAPE, (2048, 2048), ImageFormat("jpegxl"))
    bench.record = SlideRecord(info, tissue, (CHUNK, CHUNK), {}, array)
    shown = bench.read(5, Region(0, 0, 100, 100))
    np.testing.assert_array_equal(shown[:32, :64], box_reduce(bench.roi[kept.slices()], 32))
    np.testing.assert_array_equal(shown[32:], whole[32:100, :100])


def test_a_device_is_not_asked_for_it(sketcher: Sketcher, whole: Pixels) -> None:
    def refuse(windows: list[Window]) -> list[Any]:
        raise AssertionError(windows)

    engine: Any = None
    screen = Screen(engine, refuse, TileBoard(1 << 20))
    region = Region(10, 20, 40, 60)
    job = Bench(sketcher).job(5, region, screen)
    np.testing.assert_array_equal(run_kept(job, 5, region), whole[region.slices()])


def test_another_model_is_refused() -> None:
    bundle = load_bundle()
    with pytest.raises(BundleError, match="another or none"):
        load_sketcher(bundle, {5: "0" * 64})
