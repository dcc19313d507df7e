"""A plan and its fetched chunks, made into pixels by the slide's own networks."""

from collections.abc import Callable
from typing import TypeVar

from wsicodec.codec.draw import OWN_VIEW, Draw, Pixels, Recipe, View, Window, draw_windows
from wsicodec.codec.draw_published import (
    PUBLISHED_VIEW,
    PublishedRecipe,
    check_backend,
    draw_published,
    load_model,
)
from wsicodec.codec.plan import Plan, Tile
from wsicodec.codec.record import SlideRecord
from wsicodec.codec.region import Fetched, RegionJob
from wsicodec.codec.state import State, state
from wsicodec.config import DrawOptions
from wsicodec.models.bundle import PUBLISHED_FAMILIES, Bundle, find_bundle
from wsicodec.models.networks import Drawing, choose_backend, load_drawing

Networks = TypeVar("Networks")


def tile_key(record: SlideRecord, options: DrawOptions) -> Callable[[Tile], tuple[object, ...]]:
    """What names a drawn tile among all slides and ways to draw."""
    info = record.info
    how = (info.slide, info.fingerprint, options.steps or info.steps, options.backend)
    return lambda tile: (*how, *tile)


def compute(record: SlideRecord, plan: Plan, fetched: Fetched, options: DrawOptions) -> RegionJob:
    """The job that fills in a plan; loads the networks if a tile has to be generated."""
    here = state()
    bundle = find_bundle(record.info.fingerprint)
    draw: Draw | None = None
    batch = 1
    if any(record.is_generated(*tile) for tiles in plan.missing.values() for tile in tiles):
        steps = options.steps or record.info.steps
        chosen = _published if bundle.family in PUBLISHED_FAMILIES else _own
        plain, batch = chosen(here, bundle, record.info.slide, steps, options.backend)
        draw = _counted(here, plain)
    return RegionJob(
        record,
        plan,
        fetched,
        bundle.embedding_width,
        bundle.embedding_scale,
        draw,
        batch,
        here.workers,
        here.tiles,
        tile_key(record, options),
        view_of(bundle),
    )


def view_of(bundle: Bundle) -> View:
    """What the bundle's networks are shown of a slide."""
    return PUBLISHED_VIEW if bundle.family in PUBLISHED_FAMILIES else OWN_VIEW


def _counted(here: State, draw: Draw) -> Draw:
    def counted(windows: list[Window]) -> list[Pixels]:
        here.count(windows[0].level, len(windows))
        return draw(windows)

    return counted


def _own(here: State, bundle: Bundle, slide: str, steps: int, backend: str) -> tuple[Draw, int]:
    networks = _networks(here, bundle, backend)
    start = str(bundle.config["schedule"].get("start", "noise"))
    recipe = Recipe(slide, bundle.latent_channels, steps, start)
    return lambda windows: draw_windows(networks, recipe, windows), networks.batch


def _published(
    here: State, bundle: Bundle, slide: str, steps: int, backend: str
) -> tuple[Draw, int]:
    check_backend(bundle, backend)
    recipe = PublishedRecipe.of(bundle, slide, steps)
    model = _kept(here, (bundle.fingerprint, "torch"), lambda: load_model(bundle))
    return lambda windows: draw_published(model, recipe, windows), model.batch


def _networks(here: State, bundle: Bundle, backend: str) -> Drawing:
    chosen = choose_backend(backend)
    return _kept(here, (bundle.fingerprint, chosen), lambda: load_drawing(bundle, chosen))


def _kept(here: State, key: tuple[str, str], load: Callable[[], Networks]) -> Networks:
    """The networks of a bundle on a backend, loaded once."""
    with here.networks_lock:
        if key not in here.networks:
            here.networks[key] = load()
        found: Networks = here.networks[key]
        return found
