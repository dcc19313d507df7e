"""A plan and its fetched chunks, made into pixels by the slide's own networks."""

from collections.abc import Callable

from wsicodec.codec.draw import Draw, Pixels, Recipe, Window, draw_windows
from wsicodec.codec.plan import Plan, Tile
from wsicodec.codec.record import SlideRecord
from wsicodec.codec.region import Fetched, RegionJob
from wsicodec.codec.state import State, state
from wsicodec.config import DrawOptions
from wsicodec.models.bundle import Bundle, find_bundle
from wsicodec.models.networks import Drawing, choose_backend, load_drawing


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
        networks = _networks(here, bundle, options.backend)
        steps = options.steps or record.info.steps
        start = str(bundle.config["schedule"].get("start", "noise"))
        recipe = Recipe(record.info.slide, bundle.latent_channels, steps, start)
        draw, batch = _counted(here, networks, recipe), networks.batch
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
    )


def _counted(here: State, networks: Drawing, recipe: Recipe) -> Draw:
    def draw(windows: list[Window]) -> list[Pixels]:
        here.count(windows[0].level, len(windows))
        return draw_windows(networks, recipe, windows)

    return draw


def _networks(here: State, bundle: Bundle, backend: str) -> Drawing:
    chosen = choose_backend(backend)
    key = (bundle.fingerprint, chosen)
    with here.networks_lock:
        if key not in here.networks:
            here.networks[key] = load_drawing(bundle, chosen)
        networks: Drawing = here.networks[key]
        return networks
