"""Stage `chain`: whole chains on fields of `val`, one CSV row per level and step count."""

import csv
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from wsicodec.coding.quantizer import EmbeddingTables, dequantize, quantize
from wsicodec.geometry import PATCH
from wsicodec.train.bundle import load_renderer, load_tables, load_zoomldm
from wsicodec.train.chain import Field, Networks, measure
from wsicodec.train.data import DataConfig, Sampler, generator, load_pictures
from wsicodec.train.prepare import patch_embedder
from wsicodec.train.variants import Embed
from wsicodec.train.zoomldm import Grid


@dataclass(frozen=True, slots=True)
class ChainMeasurement:
    """What is measured, on what, and where the rows go."""

    out: str = "benchmarks/results/training/chain.csv"
    embedder: str = "runs/embedder"
    embedder_prefix: str = "average.teacher."
    zoomldm: str = "runs/distill"  # denoiser and renderer
    tables: str = "runs/codec"
    fields: int = 24  # at most one per picture
    side: int = 512  # pixels
    bpp: float = 0.021  # of the anchor's AVIF, bits per level-0 pixel
    steps: tuple[int, ...] = (1, 2, 4)
    seed: int = 11
    data: DataConfig = field(default_factory=lambda: DataConfig(split="val"))


def measure_chain(config: ChainMeasurement) -> None:
    """Draw the fields' chains and write the medians; 0 steps is the enlarged anchor."""
    zoomldm, facts = load_zoomldm(Path(config.zoomldm))
    networks = Networks(zoomldm, load_renderer(Path(config.zoomldm))[0])
    fields = embedded_fields(config)
    rows = measure(fields, networks, config.steps, config.bpp)
    Path(config.out).parent.mkdir(parents=True, exist_ok=True)
    common = {"patches": facts["seen"], "fields": len(fields), "bpp": config.bpp}
    with Path(config.out).open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, [*common, *rows[0]])
        writer.writeheader()
        writer.writerows(common | {k: round(v, 4) for k, v in row.items()} for row in rows)


def embedded_fields(config: ChainMeasurement) -> list[Field]:
    """The fields of `choose_fields` with their embeddings."""
    tensors, scale = load_tables(Path(config.tables))
    embed = patch_embedder(Path(config.embedder), config.embedder_prefix)
    tables = EmbeddingTables.from_tensors(tensors)
    bare = choose_fields(config)
    return [dataclasses.replace(f, grid=field_grid(f, embed, tables, scale)) for f in bare]


def choose_fields(config: ChainMeasurement) -> list[Field]:
    """Squares of 20x with tissue, one per picture, the same for every network."""
    pictures = load_pictures(config.data)
    sampler = Sampler(pictures, config.data, config.side)
    chosen: dict[int, Field] = {}
    for draw in range(50 * config.fields):
        window = sampler.draw_at(generator(config.seed, draw), 0, config.side, PATCH)
        if window.picture not in chosen:
            name = pictures[window.picture].name
            chosen[window.picture] = Field(name, sampler.read(window), None)
        if len(chosen) == config.fields:
            break
    return list(chosen.values())


def field_grid(field: Field, embed: Embed, tables: EmbeddingTables, scale: float) -> Grid:
    """A field's embeddings after quantisation, divided by the bundle's scale."""
    count = field.rgb.shape[0] // PATCH
    patches = field.rgb.reshape(count, PATCH, count, PATCH, 3).swapaxes(1, 2)
    vectors = embed(np.ascontiguousarray(patches.reshape(-1, PATCH, PATCH, 3)))
    decoded = dequantize(quantize(vectors, tables), tables) / np.float32(scale)
    return Grid(decoded.reshape(count, count, -1), np.ones((count, count), np.bool_))
