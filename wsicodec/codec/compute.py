"""A plan and its fetched chunks, made into pixels by the slide's own networks."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from wsicodec.codec.draw import OWN_VIEW, Draw, Pixels, Recipe, View, Window, draw_windows
from wsicodec.codec.draw_published import (
    PUBLISHED_VIEW,
    PublishedRecipe,
    check_backend,
    draw_published,
    load_model,
)
from wsicodec.codec.gather import Engine, Gatherer
from wsicodec.codec.plan import Plan, Tile
from wsicodec.codec.record import SlideRecord
from wsicodec.codec.region import Fetched, RegionJob
from wsicodec.codec.region_device import Screen
from wsicodec.codec.sketch import Sketcher, load_sketcher
from wsicodec.codec.state import State, state
from wsicodec.config import DrawOptions
from wsicodec.models.bundle import PUBLISHED_FAMILIES, Bundle, find_bundle
from wsicodec.models.networks import Drawing, choose_backend, load_drawing

Networks = TypeVar("Networks")


@dataclass(frozen=True, slots=True)
class Means:
    """How the windows of one slide are drawn."""

    draw: Draw
    batch: int  # windows per call of draw
    workers: Executor  # that the calls run on
    screen: Screen | None = None  # where they are drawn on a device


def tile_key(record: SlideRecord, options: DrawOptions) -> Callable[[Tile], tuple[object, ...]]:
    """What names a drawn tile among all slides and ways to draw."""
    info = record.info
    how = (info.slide, info.fingerprint, options.steps or info.steps, options.backend)
    return lambda tile: (*how, *tile)


def compute(record: SlideRecord, plan: Plan, fetched: Fetched, options: DrawOptions) -> RegionJob:
    """The job that fills in a plan; loads the networks if a tile has to be generated."""
    here = state()
    bundle = find_bundle(record.info.fingerprint)
    means = _means(here, bundle, record, plan, options)
    return RegionJob(
        record,
        plan,
        fetched,
        bundle.embedding_width,
        bundle.embedding_scale,
        _counted(here, means.draw) if means else None,
        means.batch if means else 1,
        means.workers if means else here.workers,
        here.tiles,
        tile_key(record, options),
        view_of(bundle),
        means.screen if means else None,
        _sketcher(here, bundle, record, plan),
    )


def _means(
    here: State, bundle: Bundle, record: SlideRecord, plan: Plan, options: DrawOptions
) -> Means | None:
    """How the plan's tiles are drawn; None if networks draw none of them."""
    drawn = (tiles for level, tiles in plan.missing.items() if not record.is_sketched(level))
    if not any(record.is_generated(*tile) for tiles in drawn for tile in tiles):
        return None
    steps = options.steps or record.info.steps
    chosen = _published if bundle.family in PUBLISHED_FAMILIES else _own
    return chosen(here, bundle, record.info.slide, steps, options.backend)


def _sketcher(here: State, bundle: Bundle, record: SlideRecord, plan: Plan) -> Sketcher | None:
    """What computes the plan's sketched tiles; None if there are none."""
    if not any(record.is_sketched(level) for level in plan.missing):
        return None
    wanted = record.info.sketch
    return _kept(here, tuple(wanted.items()), lambda: load_sketcher(bundle, wanted))


def view_of(bundle: Bundle) -> View:
    """What the bundle's networks are shown of a slide."""
    return PUBLISHED_VIEW if bundle.family in PUBLISHED_FAMILIES else OWN_VIEW


def _counted(here: State, draw: Draw) -> Draw:
    def counted(windows: list[Window]) -> list[Pixels]:
        here.count(windows[0].level, len(windows))
        return draw(windows)

    return counted


def _own(here: State, bundle: Bundle, slide: str, steps: int, backend: str) -> Means:
    schedule = bundle.config["schedule"]
    start, colours = schedule.get("start", "noise"), schedule.get("colours", "parent")
    plain = (start, colours) == ("noise", "parent")  # what whole batches on a card know
    if plain and choose_backend(backend) == "torch" and (card := find_card()):
        gatherer = _kept(
            here,
            (bundle.fingerprint, card, steps),
            lambda: Gatherer(load_engine(bundle, steps, card)),
        )
        return _gathered(here, gatherer, slide)
    networks = _networks(here, bundle, backend)
    recipe = Recipe(slide, bundle.latent_channels, steps, start, colours)
    draw: Draw = lambda windows: draw_windows(networks, recipe, windows)  # noqa: E731
    return Means(draw, networks.batch, here.workers)


def _gathered(here: State, gatherer: Gatherer, slide: str) -> Means:
    keep = _counted(here, lambda windows: gatherer.draw(slide, windows, keep=True))
    screen = Screen(gatherer.engine, keep, here.kept)
    draw: Draw = lambda windows: gatherer.draw(slide, windows)  # noqa: E731
    return Means(draw, gatherer.engine.batch, here.gathering, screen)


def find_card() -> str | None:
    """The device that whole batches are drawn on, as PyTorch names it; None on a CPU."""
    from wsicodec.models.torch_backend import device

    where = device()
    return None if where.type == "cpu" else str(where)


def load_engine(bundle: Bundle, steps: int, card: str) -> Engine:
    """The engine of a bundle of the small family on a device."""
    from wsicodec.codec.draw_device import DeviceDrawing

    return DeviceDrawing(bundle, steps, card)


def _published(here: State, bundle: Bundle, slide: str, steps: int, backend: str) -> Means:
    check_backend(bundle, backend)
    recipe = PublishedRecipe.of(bundle, slide, steps)
    model = _kept(here, (bundle.fingerprint, "torch"), lambda: load_model(bundle))
    draw: Draw = lambda windows: draw_published(model, recipe, windows)  # noqa: E731
    return Means(draw, model.batch, here.workers)


def _networks(here: State, bundle: Bundle, backend: str) -> Drawing:
    chosen = choose_backend(backend)
    return _kept(here, (bundle.fingerprint, chosen), lambda: load_drawing(bundle, chosen))


def _kept(here: State, key: tuple[object, ...], load: Callable[[], Networks]) -> Networks:
    """The networks of a bundle on a backend, loaded once."""
    with here.networks_lock:
        if key not in here.networks:
            here.networks[key] = load()
        found: Networks = here.networks[key]
        return found
