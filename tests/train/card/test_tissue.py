"""Windows, variants, conditions and parents on a device against those at home."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.train.toys import WIDTH  # noqa: E402
from wsicodec.diffusion.windows import conditioning_map  # noqa: E402
from wsicodec.geometry import Region  # noqa: E402
from wsicodec.models.renderer import Renderer, RendererConfig  # noqa: E402
from wsicodec.resample import box_reduce  # noqa: E402
from wsicodec.train.card.bank import Bank, Where  # noqa: E402
from wsicodec.train.card.draws import Windows  # noqa: E402
from wsicodec.train.card.parents import draw_parents  # noqa: E402
from wsicodec.train.card.slice import Slice, SliceOptions  # noqa: E402
from wsicodec.train.card.stages import CardZoom, new_stage  # noqa: E402
from wsicodec.train.card.tissue import Squares  # noqa: E402
from wsicodec.train.card.variants import Variants, _pool  # noqa: E402
from wsicodec.train.data import DataConfig, Sampler, generator, share_of  # noqa: E402
from wsicodec.train.parents import ParentConfig  # noqa: E402
from wsicodec.train.variants import cut  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def stage(runs: Any) -> CardZoom:
    plan = {"slices": 1, "variants": 2, "stages": [runs.stage("zoomldm")]}
    pack, out, state = (Path(runs.at(name)) for name in ("pack", "o", "none"))
    path = runs.write("tissue_plan", plan)
    deck = Slice(SliceOptions(pack, out, state, path, seconds=1, device="cpu"), 0.0).deck
    found = new_stage(deck.plan.stages[0], deck, 0, fresh=False)
    assert isinstance(found, CardZoom)
    return found


@pytest.fixture(scope="module")
def variants(stage: CardZoom) -> Variants:
    return stage.round


def windows_of(variants: Variants, count: int = 64, side: int = 128) -> Windows:
    drawer = variants.drawer(DataConfig(), side)
    return drawer.draw(np.random.default_rng(0), count, side, 32)


def test_gathered_squares_repeat_edges_or_show_what_is_outside() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    bank = Bank(20 * 30 + 4, 3, torch.uint8, torch.device("cpu"))
    bank.add(torch.zeros(2, 2, 3, dtype=torch.uint8))
    number = bank.add(torch.from_numpy(image))
    corners = torch.tensor([[-3, 25], [5, 5], [15, -2]])
    where = Where(torch.full((3,), number), corners[:, 0], corners[:, 1])
    found = bank.gather(where, 8).permute(0, 2, 3, 1).numpy()
    for square, (y, x) in zip(found, corners.tolist(), strict=True):
        np.testing.assert_array_equal(square, cut(image, y, x, 8))
    assert bank.gather(where, 8, outside=7)[0, 0, 0, 0] == 7
    assert (bank.gather(Where(torch.tensor([-1]), *corners[:1].T), 8, outside=0) == 0).all()


def test_what_is_put_beyond_a_plane_is_dropped() -> None:
    bank = Bank(200, 1, torch.float16, torch.device("cpu"))
    first, number = bank.reserve(10, 10), bank.reserve(10, 10)
    where = Where(torch.tensor([number]), torch.tensor([-2]), torch.tensor([8]))
    bank.put(where, torch.ones(1, 1, 4, 4))
    assert bank.plane(number).sum() == 4
    assert bank.plane(first).sum() == 0


def test_windows_are_as_likely_as_the_samplers(variants: Variants) -> None:
    config, count = DataConfig(source_cap=0.6), 4000
    drawer = variants.drawer(config, 96)
    ours = drawer.draw(np.random.default_rng(1), count, 96)
    sampler = Sampler(variants.spots, config, 96)
    theirs = [sampler.draw(generator(0, i), 96) for i in range(count)]
    for mine, other in ((ours.level, [w.level for w in theirs]),
                        (ours.place, [w.picture for w in theirs])):  # fmt: skip
        shares = [np.bincount(values, minlength=8)[:8] / count for values in (mine, other)]
        # Two binomial shares of 4000: four deviations of their difference.
        assert np.abs(shares[0] - shares[1]).max() < 4 * (2 * 0.25 / count) ** 0.5


def test_windows_lie_inside_and_prefer_tissue(variants: Variants) -> None:
    windows = windows_of(variants, 200)
    for place, level, y, x in zip(windows.place, windows.level, windows.y, windows.x, strict=True):
        height, width = variants.spots[place].shapes[level]
        assert 0 <= y <= height - windows.side
        assert 0 <= x <= width - windows.side
        assert y % 32 == x % 32 == 0
    drawer = variants.drawer(DataConfig(), 128)
    corners = np.stack([windows.y, windows.x], -1)[:, None]
    found = drawer.tissue(windows.place, windows.level, corners, 128)[:, 0]
    rows = zip(windows.place, windows.level, windows.y, windows.x, strict=True)
    wanted = [
        share_of(variants.spots[p].tissue, int(k), int(y), int(x), 128) for p, k, y, x in rows
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_levels_follow_from_the_variants_own_pixels(variants: Variants) -> None:
    assert len(variants.spots) == 8
    for spot in variants.spots:
        finest = spot.levels[0].numpy()
        np.testing.assert_array_equal(spot.levels[1].numpy(), box_reduce(finest, 2))
    same = [s for s in variants.spots if s.source == "small/two"]
    assert not torch.equal(same[0].levels[0], same[1].levels[0])


def test_latents_are_those_of_the_blocks(stage: CardZoom, variants: Variants) -> None:
    rgb = variants.spots[0].levels[0][:320, :320].permute(2, 0, 1)[None].float() / 127.5 - 1
    whole = stage.autoencoder.encode(rgb)
    one = torch.tensor([0])
    found = variants.latent(Squares(one, one, one + 64, one + 64, 128))
    # The same network on another cut of the plane: half precision of values below eight.
    torch.testing.assert_close(found, whole[:, :, 8:24, 8:24], atol=4e-3, rtol=0)


def test_conditions_are_those_of_home(variants: Variants) -> None:
    windows = windows_of(variants)
    ours = variants.conditions(Squares.of(windows, torch.device("cpu"))).numpy()
    for number in range(len(windows.place)):
        place, level = int(windows.place[number]), int(windows.level[number])
        grid = variants.grids.plane(int(variants.grid_planes[place, 0])).numpy()
        y, x = int(windows.y[number]), int(windows.x[number])
        region = Region(y, x, y + windows.side, x + windows.side)
        wanted = conditioning_map(grid[..., :-1], grid[..., -1] > 0, (0, 0), region, level)
        np.testing.assert_allclose(ours[number], wanted, atol=1e-6)
    assert np.abs(ours[:, :-1]).max() > 0


def test_conditions_of_coarse_levels_are_pooled() -> None:
    rng = np.random.default_rng(0)
    valid = rng.random((12, 9)) < 0.7
    grid = np.concatenate([rng.normal(0, 1, (12, 9, 3)) * valid[..., None], valid[..., None]], -1)
    grids: list[Any] = []
    planes = _pool(grid.astype(np.float32), grids)
    ours = Variants.__new__(Variants)
    ours.device = torch.device("cpu")
    ours.grid_planes = torch.tensor([planes])
    ours.grids = Bank(sum(g.shape[0] * g.shape[1] for g in grids), 4, torch.float32, ours.device)
    for plane in grids:
        ours.grids.add(torch.from_numpy(plane))
    for level in range(7):
        where = torch.tensor([0]), torch.tensor([level]), torch.tensor([0]), torch.tensor([-32])
        found = ours.conditions(Squares(*where, 128))[0].numpy()
        region = Region(0, -32, 128, 96)
        wanted = conditioning_map(
            grid[..., :3].astype(np.float32), valid, (0, 0), region, level
        )  # fmt: skip
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def parents_of(variants: Variants, windows: Windows, **shares: float) -> tuple[Any, Any]:
    config = ParentConfig(**({"none": 0, "none_coarse": 0, "plain": 0} | shares))
    rng, noise = np.random.default_rng(0), torch.Generator().manual_seed(0)
    return draw_parents(rng, noise, variants, windows, config)


def test_plain_parents_are_the_level_above(variants: Variants) -> None:
    windows = windows_of(variants)
    parent, known = parents_of(variants, windows, plain=1)
    assert (known == 1).all()
    place, level = int(windows.place[0]), int(windows.level[0])
    y, x = int(windows.y[0]) // 2, int(windows.x[0]) // 2
    true = cut(variants.spots[place].levels[level + 1].numpy(), y, x, 64)
    found = parent[0].add(1).mul(127.5).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, true, atol=1e-3)


def test_under_the_anchor_parents_are_the_coded_pixels(variants: Variants) -> None:
    windows = windows_of(variants, 200)
    parent, _ = parents_of(variants, windows)
    number = int(np.flatnonzero(windows.level == 1)[0])
    place = int(windows.place[number])
    coded = variants.pixels.plane(int(variants.coded[place])).numpy()
    true = cut(coded, int(windows.y[number]) // 2, int(windows.x[number]) // 2, 64)
    found = parent[number].add(1).mul(127.5).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, true, atol=1e-3)


def test_a_share_has_no_parent(variants: Variants) -> None:
    parent, known = parents_of(variants, windows_of(variants, 400), none=0.5, none_coarse=0.5)
    assert abs(float(known.mean()) - 0.5) < 4 * 0.5 / 400**0.5
    assert (parent[known == 0] == 0).all()


def test_drawn_parents_stand_in_once_they_exist(stage: CardZoom, variants: Variants) -> None:
    windows = windows_of(variants, 64)
    shares = {"drawn": 1.0, "blend": 0.0, "blur": 0.0, "noise": 0.0}
    before, _ = parents_of(variants, windows, **shares)
    stage.refresh()
    assert torch.equal(parents_of(variants, windows, **shares)[0], before)
    stage.renderer = Renderer(RendererConfig(4, (8, 8, 8), (1, 1, 1)))
    stage.refresh()
    after, _ = parents_of(variants, windows, **shares)
    fine = torch.from_numpy(windows.level == 0)
    assert not torch.equal(before[fine], after[fine])
    assert torch.equal(before[~fine], after[~fine])
    # Whatever an untrained network draws, its colours are locked to the anchor's.
    means = [images[fine].mean((2, 3)) for images in (before, after)]
    assert float((means[0] - means[1]).abs().max()) < 0.1


def test_a_batch_follows_from_its_number(stage: CardZoom) -> None:
    first, again, other = stage.batch(5, 4), stage.batch(5, 4), stage.batch(6, 4)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["noise"], other["noise"])
    assert first["latent"].shape == (4, 4, 24, 24)
    assert first["cond"].shape == (4, WIDTH + 1, 6, 6)
