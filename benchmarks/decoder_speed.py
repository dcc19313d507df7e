"""Seconds per tile through ONNX Runtime: one window on one core, and a field on all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.decoder_variants import Variant, drawing, forget_pixels
from benchmarks.record import Row
from wsicodec.bench.fields import Mosaic
from wsicodec.codec.draw import Recipe, Window, draw_windows
from wsicodec.codec.state import state
from wsicodec.diffusion.windows import CELL, WINDOW
from wsicodec.geometry import PATCH
from wsicodec.models.bundle import Bundle, load_bundle
from wsicodec.models.networks import cores, load_drawing

NAME = "decoder_seconds"


def window_of(bundle: Bundle) -> Window:
    """A window of noise: what it costs depends on sizes alone."""
    rng = np.random.default_rng(0)
    cells = WINDOW // CELL
    parent = rng.integers(0, 256, (WINDOW // 2, WINDOW // 2, 3), np.uint8)
    given = rng.standard_normal((bundle.embedding_width + 1, cells, cells), np.float32)
    return Window(0, 0, 0, 0, parent, given)


def on_one_core(bundle: Bundle, steps: Sequence[int], rounds: int) -> dict[int, list[float]]:
    """Seconds of drawing one tile; rounds take all step counts in turn."""
    networks = load_drawing(bundle, "onnx")
    window, slide = window_of(bundle), "0" * 32
    found: dict[int, list[float]] = {n: [] for n in steps}
    for number in range(rounds + 1):
        for n in steps:
            recipe = Recipe(slide, bundle.latent_channels, n)
            spent = _seconds(partial(draw_windows, networks, recipe, [window]))
            if number:  # the first round makes buffers
                found[n].append(spent)
    return found


def on_all_cores(
    mosaic: Mosaic, bundle: str, steps: int, rounds: int, work: Path
) -> tuple[list[float], list[float]]:
    """Seconds per window, and per tile of level 0 with all its ancestors, of a field read cold."""
    place = mosaic.fields[0].region
    tiles = len(list(place.scale_down(PATCH).cells()))
    windows, whole = [], []
    with drawing(mosaic, Variant(bundle, "standard", steps), work) as drawn:
        for number in range(rounds + 1):
            forget_pixels()
            before = sum(state().drawn.values())
            spent = _seconds(lambda: drawn.group["0"][place.slices()])
            if number:  # the first one loads the networks
                windows.append(spent / (sum(state().drawn.values()) - before))
                whole.append(spent / tiles)
    return windows, whole


def rows(
    mosaic: Mosaic, bundle: str, label: str, steps: Sequence[int], rounds: int, work: Path
) -> list[Row]:
    """Rows of one bundle; `mosaic` holds one field."""
    opened = load_bundle(bundle)
    subject = f"{label} {opened.fingerprint[:12]}"
    made = [
        _row(subject, f"{n} steps, one core", "seconds_per_window", seconds)
        for n, seconds in on_one_core(opened, steps, rounds).items()
    ]
    for n in steps:
        windows, whole = on_all_cores(mosaic, bundle, n, rounds, work)
        setting = f"{n} steps, {cores()} cores"
        made.append(_row(subject, setting, "seconds_per_window", windows))
        made.append(_row(subject, setting, "seconds_per_tile_with_ancestors", whole))
    return made


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _row(subject: str, setting: str, metric: str, seconds: list[float]) -> Row:
    middle, low, high = statistics.median(seconds), min(seconds), max(seconds)
    return Row(NAME, subject, setting, metric, middle, "s", low, high, len(seconds))
