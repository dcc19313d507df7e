"""How a trained flow is best brought down to few steps, in equal training time.

    python -m benchmarks.few_steps --config FILE.json [--seconds 300]

FILE fills a `Comparison`, as benchmarks/configs/few_steps.json does; the run folders that it names
come from `python -m wsicodec.train`. From one flow and one renderer, every recipe trains for as
many seconds of one processor core, whatever a step costs it:

    flow untouched              not trained at all
    flow trained on             the flow's own loss, as before
    shortcut, consistency,      the stage `few_steps`: in latents, with targets of a moving average
    mean flow
    adversarial                 the stage `distill`: in pixels, the renderer and a critic as well
    ..., then adversarial       half of the time each

The learning rate is held, and what is measured is the average of the weights. Each result draws
fields of `val` from their coded anchors in 1, 2 and 4 steps, through the renderer, and where that
was not trained, also through the autoencoder's own decoder: a renderer may hide what latents lack.
Rows are levels; `fd_held_out` has a 95 % interval over files, the rest are medians over fields, and
`seconds_per_tile` is one core's time for both drawn levels under a tile.

A row is written as soon as it is known; stopped, the command goes on where it stood. The plot goes
beside the rows.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.decoder_measures import Ground
from benchmarks.few_steps_plot import plot
from benchmarks.few_steps_training import RECIPES, RENDERER, Comparison, drawers, train, trained
from benchmarks.magnifications import configuration
from benchmarks.record import RESULTS
from benchmarks.record import Row as Provenance
from wsicodec.bench.fields import Field as Place
from wsicodec.bench.fields import lay_out
from wsicodec.bench.judging import Judge
from wsicodec.bench.table import Table
from wsicodec.geometry import PATCH
from wsicodec.metrics.features import Extractor, held_out
from wsicodec.train.chain import Field, coded_anchor, draw_below, enlarge
from wsicodec.train.chain_eval import embedded_fields
from wsicodec.train.config import load_config
from wsicodec.train.data import Pixels
from wsicodec.train.variants import ANCHOR

NAME = "few_steps"
KEYS = ("recipe", "pixels", "seconds", "configuration", "fields_digest", "steps", "level")
ENLARGED = "anchor enlarged"
Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """The fields, their anchors, and what judges."""

    fields: Sequence[Field]
    anchors: Sequence[Pixels]
    ground: Ground


def scene_of(comparison: Comparison, judge: Extractor) -> Scene:
    """Fields of `val`, the same for all."""
    chain = comparison.chain
    known = {f.name: f for f in embedded_fields(chain)}
    mosaic = lay_out("val", [Place(f.name, f.name, f.rgb) for f in known.values()])
    fields = [known[place.name] for place in mosaic.fields]  # which has an order of its own
    ground = Ground(mosaic, Judge([judge], None, comparison.draws, similarity=False))
    return Scene(fields, [coded_anchor(f, chain.bpp) for f in fields], ground)


def compare(
    comparison: Comparison, judge: Extractor, table: Table, recipes: Sequence[str] = tuple(RECIPES)
) -> Iterator[Row]:
    """Train and measure what has no rows yet; rows as they are made."""
    scene = scene_of(comparison, judge)
    for recipe in (ENLARGED, *recipes):
        last = _key(comparison, scene, recipe) | {"steps": 0, "level": ANCHOR - 1}
        if recipe != ENLARGED:
            last |= {"pixels": RENDERER, "steps": comparison.chain.steps[-1]}
        if not table.has(last):
            yield from _measured(comparison, scene, recipe)


def _measured(comparison: Comparison, scene: Scene, recipe: str) -> Iterator[Row]:
    if recipe == ENLARGED:
        pairs = [
            [enlarge(anchor, ANCHOR - level) for anchor in scene.anchors] for level in range(ANCHOR)
        ]
        facts = {"patches": 0, "training_seconds": 0.0, "seconds_per_tile": 0.0}
        yield from _rows(scene, _key(comparison, scene, recipe) | {"steps": 0}, facts, pairs)
        return
    halves = RECIPES[recipe]
    folder, budget = train(comparison, halves), trained(comparison, halves)
    for pixels, networks in drawers(comparison, folder, halves).items():
        for steps in comparison.chain.steps:
            key = _key(comparison, scene, recipe) | {"pixels": pixels, "steps": steps}
            started = time.process_time()
            drawn = [
                draw_below(f, networks, steps, anchor)
                for f, anchor in zip(scene.fields, scene.anchors, strict=True)
            ]
            spent = time.process_time() - started
            tiles = sum(f.rgb.shape[0] * f.rgb.shape[1] for f in scene.fields) / PATCH**2
            facts = budget | {"seconds_per_tile": spent / tiles}
            levels = [[chain[level] for chain in drawn] for level in range(ANCHOR)]
            yield from _rows(scene, key, facts, levels)


def _key(comparison: Comparison, scene: Scene, recipe: str) -> Row:
    plain = dataclasses.replace(comparison, seconds=Comparison().seconds)
    digest = scene.ground.mosaic.digest
    seconds = comparison.seconds if RECIPES.get(recipe) else 0  # what is not trained has no budget
    values = (recipe, "", f"{seconds:g}", configuration(plain).split()[-1], digest)
    return dict(zip(KEYS[:-2], values, strict=True))


def _rows(scene: Scene, key: Row, facts: Row, levels: Sequence[list[Pixels]]) -> Iterator[Row]:
    made = asdict(Provenance(NAME, "", "", "", 0.0, ""))
    provenance = {k: made[k] for k in ("machine", "command", "versions", "commit", "date")}
    for level, drawn in enumerate(levels):
        figures = scene.ground.figures(level, drawn)
        counts = {"fields": len(scene.fields), "judged": int(scene.ground.mosaic.tissue.sum())}
        yield key | {"level": level} | facts | counts | figures | provenance


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(f"benchmarks.{NAME}", description=__doc__.split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--seconds", type=float, help="of one core, that a recipe trains")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=RESULTS / f"{NAME}.csv")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    comparison = load_config(Comparison, given.config)
    if given.seconds:
        comparison = dataclasses.replace(comparison, seconds=given.seconds)
    table = Table(given.out, KEYS)
    for row in compare(comparison, held_out(), table, given.recipes):
        table.add(row)
        told = f"{row['recipe']}, {row['pixels']}, {row['steps']} steps, level {row['level']}"
        print(f"{told}: {row['fd_held_out']:.1f}", flush=True)
    print(given.out, plot(table.rows, given.out.with_suffix(".png")))


if __name__ == "__main__":
    main()
