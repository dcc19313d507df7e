"""Planning and filling in regions, with a stand-in for the networks that counts its windows."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.codec.kit import info_of
from wsicodec.codec.draw import Window
from wsicodec.codec.plan import Plan, Tile, plan_region
from wsicodec.codec.record import ImageArray, SlideRecord
from wsicodec.codec.region import Fetched, RegionJob
from wsicodec.codec.region_device import Screen, run_kept
from wsicodec.codec.state import TileBoard
from wsicodec.coding.images import ImageFormat
from wsicodec.config import BLANK, GENERATED, MEASURED, StoreInfo
from wsicodec.errors import GeneratedPixelsError
from wsicodec.geometry import PATCH, Region, grid_shape, level_shape
from wsicodec.resample import box_reduce

SHAPE = (2000, 2900)
WIDTH = 4  # of the stand-in embeddings
Pixels = NDArray[np.uint8]


class Bench:
    """A slide without files: level 2 is real, embeddings are the patches' places."""

    def __init__(self, anchor: int | None = 2, tissue: Pixels | None = None) -> None:
        rng = np.random.default_rng(0)
        self.real = rng.integers(0, 256, (*level_shape(SHAPE, anchor or 0), 3), np.uint8)
        gy, gx = grid_shape(SHAPE)
        grid = np.full((gy, gx), GENERATED, np.uint8) if tissue is None else tissue
        y, x = np.mgrid[:gy, :gx].astype(np.float32)
        self.grid = np.stack([y + 1, x + 1, y * x, y - x], -1) * (grid != BLANK)[..., None]
        measured = {} if anchor is None else {anchor: "anchor"}
        info = info_of(SHAPE, preset="standard", measured=measured)
        size = self.real.shape[:2]
        picture = ImageArray(
            "anchor", (size[0], size[1]), (size[0], size[1]), ImageFormat("jpegxl")
        )
        pictures = {} if anchor is None else {anchor: picture}
        self.record = SlideRecord(info, grid, (32, 32), pictures, None)
        self.board = TileBoard(1 << 30)
        self.windows: Counter[int] = Counter()
        self.lock = threading.Lock()
        self.workers = ThreadPoolExecutor(4)

    def draw(self, windows: list[Window]) -> list[Pixels]:
        """Pixels that follow from all that a window is told, and from nothing else."""
        with self.lock:
            self.windows[windows[0].level] += len(windows)
        tiles = []
        for window in windows:
            mean = 0.0 if window.parent is None else float(window.parent.mean())
            base = int(window.embeddings.sum() * 7 + mean * 3 + window.magnification)
            y, x = np.mgrid[:PATCH, :PATCH]
            tile = (base + window.ty * 31 + window.tx * 17 + y * 3 + x * 5) % 251
            tiles.append(np.repeat(tile[..., None], 3, 2).astype(np.uint8))
        return tiles

    def read(
        self,
        level: int,
        region: Region,
        draw: Callable[[list[Window]], list[Pixels]] | None = None,
        allow_generated: bool = True,
    ) -> Pixels:
        plan = plan_region(self.record, level, region, self.board.cache.get, allow_generated)
        fetched = Fetched(embeddings={(0, 0): self.grid.astype(np.float32)})
        for k in self.record.pictures:
            fetched.pictures[k, 0, 0] = self.real
        return self.job(plan, fetched, draw).run(level, region)

    def job(
        self,
        plan: Plan,
        fetched: Fetched,
        draw: Callable[[list[Window]], list[Pixels]] | None = None,
        screen: Screen | None = None,
    ) -> RegionJob:
        def key(tile: Tile) -> tuple[object, ...]:
            return tile

        return RegionJob(
            self.record,
            plan,
            fetched,
            WIDTH,
            1.0,
            draw or self.draw,
            1,
            self.workers,
            self.board,
            key,
            screen=screen,
        )


def test_a_crop_is_part_of_a_larger_read() -> None:
    whole = Bench().read(0, Region(0, 0, *SHAPE))
    bench = Bench()
    for region in [Region(0, 0, 1, 1), Region(700, 900, 1300, 1100), Region(1900, 2500, *SHAPE)]:
        np.testing.assert_array_equal(bench.read(0, region), whole[region.slices()])


@pytest.mark.parametrize("anchor", [None, 2], ids=["from noise", "from a real level"])
def test_a_level_read_whole_draws_at_most_a_third_more_than_its_own_windows(
    anchor: int | None,
) -> None:
    bench = Bench(anchor)
    bench.read(0, Region(0, 0, *SHAPE))
    gy, gx = grid_shape(SHAPE)
    assert bench.windows[0] == gy * gx
    for level in bench.windows:
        own = grid_shape(level_shape(SHAPE, level))
        assert bench.windows[level] == own[0] * own[1]


def test_nothing_is_drawn_twice() -> None:
    bench = Bench()
    first = bench.read(0, Region(0, 0, 600, 600))
    before = bench.windows.copy()
    np.testing.assert_array_equal(bench.read(0, Region(0, 0, 600, 600)), first)
    assert bench.windows == before


def test_threads_that_want_the_same_tiles_share_them() -> None:
    bench = Bench()
    with ThreadPoolExecutor(8) as pool:
        reads = list(pool.map(lambda _: bench.read(0, Region(100, 100, 900, 900)), range(8)))
    for other in reads[1:]:
        np.testing.assert_array_equal(other, reads[0])
    assert bench.windows[0] == 16


def test_one_tile_costs_at_most_four_parents_a_level() -> None:
    bench = Bench(anchor=None)
    bench.read(0, Region(300, 300, 310, 310))
    assert bench.windows[0] == 1
    assert all(n <= 4 for n in bench.windows.values())


def test_blank_tiles_cost_no_window_and_show_the_level_above() -> None:
    bench = Bench(tissue=np.full(grid_shape(SHAPE), BLANK, np.uint8))
    got = bench.read(0, Region(0, 0, 512, 512))
    assert not bench.windows
    real = bench.real[:128, :128].astype(float)
    assert abs(box_reduce(got, 4).astype(float) - real).mean() < 40
    assert got.std() > 20


def test_blank_tiles_above_the_top_are_glass() -> None:
    bench = Bench(anchor=None, tissue=np.full(grid_shape(SHAPE), BLANK, np.uint8))
    assert (bench.read(7, Region(0, 0, 16, 23)) == 255).all()


def test_real_levels_are_reduced_from_the_nearest_real_one() -> None:
    bench = Bench()
    np.testing.assert_array_equal(
        bench.read(4, Region(0, 0, *level_shape(SHAPE, 4))), box_reduce(bench.real, 4)
    )
    assert not bench.windows


def test_measured_levels_need_no_networks() -> None:
    bench = Bench(anchor=0)
    region = Region(10, 20, 900, 1000)
    np.testing.assert_array_equal(bench.read(0, region), bench.real[region.slices()])


def test_regions_of_interest_are_shown_as_they_were() -> None:
    bench = Bench()
    rng = np.random.default_rng(5)
    kept = Region(256, 512, 768, 1024)
    roi = rng.integers(0, 256, (1024, 1024, 3), np.uint8)
    info = bench.record.info
    tissue = bench.record.tissue.copy()
    tissue[1:3, 2:4] = MEASURED
    changed = {**info.to_json(), "roi": [[kept.y0, kept.x0, kept.y1, kept.x1]]}
    array = ImageArray("roi", SHAPE, (1024, 1024), ImageFormat("jpegxl"))
    bench.record = SlideRecord(
        StoreInfo.from_json(changed), tissue, (32, 32), bench.record.pictures, array
    )

    def read(level: int, region: Region) -> Pixels:
        plan = plan_region(bench.record, level, region, bench.board.cache.get)
        fetched = Fetched(
            embeddings={(0, 0): bench.grid.astype(np.float32)},
            pictures={(2, 0, 0): bench.real},
            roi=dict.fromkeys(plan.roi, roi),
        )
        return bench.job(plan, fetched).run(level, region)

    np.testing.assert_array_equal(read(0, kept), roi[kept.slices()])
    assert bench.windows[0] == 0
    half = kept.scale_down(2)
    np.testing.assert_array_equal(read(1, half), box_reduce(roi[kept.slices()], 2))


def test_generated_pixels_are_refused_where_the_reader_refuses_them() -> None:
    tissue = np.full(grid_shape(SHAPE), BLANK, np.uint8)
    tissue[0, 0] = GENERATED
    bench = Bench(tissue=tissue)
    with pytest.raises(GeneratedPixelsError, match="allow_generated"):
        bench.read(0, Region(0, 0, 10, 10), allow_generated=False)
    bench.read(0, Region(1024, 1024, 1034, 1034), allow_generated=False)
    bench.read(2, Region(0, 0, 10, 10), allow_generated=False)


def test_a_window_that_fails_fails_only_its_readers() -> None:
    bench = Bench()

    def broken(windows: list[Window]) -> list[Pixels]:
        if windows[0].level == 0:
            raise RuntimeError("out of order")
        return bench.draw(windows)

    with pytest.raises(RuntimeError, match="out of order"):
        bench.read(0, Region(0, 0, 10, 10), draw=broken)
    assert bench.read(0, Region(0, 0, 10, 10)).shape == (10, 10, 3)


class Device:
    """What a region on a device asks of its engine; counts what is brought there."""

    batch = places = 1

    def __init__(self) -> None:
        self.brought = 0

    def empty(self, shape: tuple[int, int]) -> Any:
        return np.zeros((*shape, 3), np.uint8)

    def put(self, pixels: Pixels) -> Any:
        self.brought += pixels.size
        return pixels

    def settle(self) -> None:
        pass

    def start(self, place: int, orders: Any, *, download: bool) -> None:
        raise NotImplementedError

    def finish(self, place: int, count: int) -> list[Pixels]:
        raise NotImplementedError

    def keep(self, place: int, count: int) -> list[Any]:
        raise NotImplementedError


def test_only_what_a_device_did_not_draw_is_brought_there() -> None:
    """Two blank tiles beside two that are drawn; at the anchor's level, all is brought."""
    tissue = np.full(grid_shape(SHAPE), GENERATED, np.uint8)
    tissue[0] = BLANK
    bench, region = Bench(tissue=tissue), Region(100, 100, 500, 500)
    wanted = Bench(tissue=tissue).read(0, region)
    device = Device()
    screen = Screen(device, bench.draw, TileBoard(1 << 30))
    for drawn in (2, 0):
        plan = plan_region(bench.record, 0, region, bench.board.cache.get)
        fetched = Fetched({(0, 0): bench.grid.astype(np.float32)}, {(2, 0, 0): bench.real})
        job = bench.job(plan, fetched, screen=screen)
        before = bench.windows[0]
        np.testing.assert_array_equal(run_kept(job, 0, region), wanted)
        assert bench.windows[0] - before == drawn, "what stayed on the device is drawn once"
    assert device.brought == 2 * (256 - 100) * 400 * 3
    assert not any(bench.board.cache.get((0, 1, x)) is not None for x in (0, 1))
