"""The pipeline of a card, on the CPU: the tiles that `draw_windows` makes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.codec.compute import find_card  # noqa: E402
from wsicodec.codec.draw import Recipe, Window, draw_windows  # noqa: E402
from wsicodec.codec.draw_device import DeviceDrawing, inputs, way_of  # noqa: E402
from wsicodec.diffusion.sampler import sample  # noqa: E402
from wsicodec.diffusion.schedule import FlowSchedule  # noqa: E402
from wsicodec.models.bundle import DEFAULT_BUNDLE, EMBEDDED, Bundle, load_bundle  # noqa: E402
from wsicodec.models.networks import load_drawing  # noqa: E402

pytestmark = pytest.mark.torch
SLIDE, OTHER = "ab" * 16, "cd" * 16


class OfWidth(Bundle):
    """The default bundle as if its embeddings had another number of values."""

    def __init__(self, width: int) -> None:
        super().__init__(EMBEDDED / DEFAULT_BUNDLE)
        self.config["embedder"] |= {"width": width, "statistics": 0}
        self.config["zoomldm"]["summarizer"]["embedding_width"] = width

    def tensors(self, part: str) -> dict[str, np.ndarray[Any, Any]]:
        found = super().tensors(part)
        name = "summarizer.first.weight"
        if name in found:
            shape = (len(found[name]), self.embedding_width + 1, 1, 1)
            found[name] = np.random.default_rng(1).normal(0, 0.1, shape)
        return found


def windows(width: int = 0) -> list[Window]:
    """Two levels, two places, and one without a parent."""
    rng, made = np.random.default_rng(0), []
    width = width or load_bundle().embedding_width
    for i in range(3):
        parent = np.clip(rng.normal(190, 30, (20, 20, 3)).repeat(8, 0).repeat(8, 1), 0, 255)
        cond = rng.normal(size=(width + 1, 10, 10)).astype(np.float32)
        given = None if i == 2 else parent.astype(np.uint8)
        made.append(Window(i % 2, i, -i, i % 2, given, cond))
    return made


def drawn(engine: DeviceDrawing, orders: list[tuple[str, Window]]) -> list[np.ndarray]:
    engine.start(0, orders, download=True)
    return engine.finish(0, len(orders))


@pytest.mark.parametrize("steps", [1, 2])
def test_tiles_are_those_of_the_other_ways_to_draw(steps: int) -> None:
    """Sums in another order: a value may round to the next of 255, and seldom does."""
    bundle = load_bundle()
    networks = load_drawing(bundle, "torch")
    orders = [(SLIDE, windows()[0]), (OTHER, windows()[1]), (SLIDE, windows()[2])]
    got = drawn(DeviceDrawing(bundle, steps, "cpu", batch=3), orders)
    for tile, (slide, window) in zip(got, orders, strict=True):
        recipe = Recipe(slide, bundle.latent_channels, steps)
        (wanted,) = draw_windows(networks, recipe, [window])
        difference = np.abs(tile.astype(int) - wanted)
        assert difference.max() <= 1
        assert difference.mean() < 1e-3


@pytest.mark.parametrize(("width", "padded"), [(206, 208), (207, 208), (208, 216)])
def test_embeddings_of_any_width_are_told_whole(width: int, padded: int) -> None:
    """The map has a channel more than they have values, and zeros up to whole lanes."""
    bundle, (window, *_) = OfWidth(width), windows(width)
    assert inputs(bundle, torch.float32, 1)[2].shape[1] == padded
    recipe = Recipe(SLIDE, bundle.latent_channels, 1)
    (wanted,) = draw_windows(load_drawing(bundle, "torch"), recipe, [window])
    engine = DeviceDrawing(bundle, 1, "cpu", batch=1)
    (tile,) = drawn(engine, [(SLIDE, window)])
    assert np.abs(tile.astype(int) - wanted).max() <= 1
    less = replace(window, embeddings=window.embeddings.copy())
    less.embeddings[-1] = 0
    assert (drawn(engine, [(SLIDE, less)])[0] != tile).any(), "the last channel is not told"


def test_a_tile_depends_neither_on_its_company_nor_on_its_place_in_the_batch() -> None:
    engine = DeviceDrawing(load_bundle(), 1, "cpu", batch=2)
    one, two, three = windows()
    alone = drawn(engine, [(SLIDE, one)])[0]
    np.testing.assert_array_equal(drawn(engine, [(SLIDE, one), (OTHER, three)])[0], alone)
    np.testing.assert_array_equal(drawn(engine, [(OTHER, two), (SLIDE, one)])[1], alone)


def test_narrow_networks_draw_nearly_the_same() -> None:
    """bfloat16 rounds to 2**-9, some fifty times in series, of detail of a few dozen values."""
    bundle, order = load_bundle(), [(SLIDE, windows()[0])]
    wide = drawn(DeviceDrawing(bundle, 1, "cpu", 1), order)[0].astype(int)
    narrow = drawn(DeviceDrawing(bundle, 1, "cpu", 1, torch.bfloat16), order)[0]
    assert (wide != narrow).any(), "it was computed in float32"
    assert np.abs(wide - narrow).mean() < 1.5


def test_the_way_is_the_samplers() -> None:
    schedule, steps = FlowSchedule(), 3

    def denoiser(x: float, t: float, step: float) -> float:
        return 0.3 * x + t - 2 * step

    x = 0.7
    for way in way_of(steps):
        x = way.keep * x + way.gain * denoiser(x, way.t, way.step)
    assert x == pytest.approx(sample(denoiser, 0.7, schedule, schedule.times(steps)))


def test_whole_batches_are_drawn_where_there_is_a_card_and_nowhere_else() -> None:
    card = find_card()
    assert (card is not None) == torch.cuda.is_available()
    assert card is None or torch.device(card).type == "cuda"


@pytest.mark.gpu
def test_a_card_draws_what_the_cpu_draws_and_the_same_whatever_the_company() -> None:
    bundle, (one, two, three) = load_bundle(), windows()
    orders = [(SLIDE, one), (OTHER, two), (SLIDE, three)]
    card = DeviceDrawing(bundle, 2, "cuda")
    wanted = np.stack(drawn(DeviceDrawing(bundle, 2, "cpu", 3, torch.bfloat16), orders)).astype(int)
    card.start(0, orders, download=True)
    card.start(1, orders[:1], download=False)  # under way at once
    got, kept = card.finish(0, 3), card.keep(1, 1)
    # Both round to bfloat16, in other orders.
    assert np.abs(np.stack(got) - wanted).mean() < 1.5
    assert kept[0].is_cuda
    np.testing.assert_array_equal(kept[0].cpu().numpy(), got[0])
    np.testing.assert_array_equal(drawn(card, orders[1:])[0], got[1])
