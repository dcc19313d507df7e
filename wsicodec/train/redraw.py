"""Stage `redraw`: level 1 of the variants as a denoiser draws it, to be parents of level 0.

A child's parent is drawn, not seen, and its errors are the drawer's own; training on them is what
keeps errors from piling up. Drawn once per variant in one step, from the coded anchor.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.diffusion.windows import conditioning_map, lock_colour
from wsicodec.geometry import Region
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.renderer import Renderer
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.resample import double
from wsicodec.train.bundle import load_renderer, load_tables, load_zoomldm
from wsicodec.train.data import DataConfig, Pixels, generator, load_pictures
from wsicodec.train.loop import rank_of_process
from wsicodec.train.variants import (
    ANCHOR,
    BLOCK,
    MARGIN,
    Variant,
    VariantConfig,
    cut,
    load_variants,
)
from wsicodec.train.zoomldm import Grid, decoded_grid, draw, render

LEVEL = ANCHOR - 1


@dataclass(frozen=True, slots=True)
class Redrawing:
    """Which networks draw which variants."""

    zoomldm: str = "runs/distill"  # denoiser and renderer
    tables: str = "runs/codec"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)


def redraw(config: Redrawing) -> None:
    """Write `drawn.npy` beside every variant that has a coded anchor.

    Under torchrun every process draws variants of its own.
    """
    zoomldm, _ = load_zoomldm(Path(config.zoomldm))
    renderer, _ = load_renderer(Path(config.zoomldm))
    tensors, scale = load_tables(Path(config.tables))
    tables = EmbeddingTables.from_tensors(tensors)
    variants = load_variants(load_pictures(config.data), config.variants)
    rank, ranks = rank_of_process()
    for number, variant in list(enumerate(variants))[rank::ranks]:
        if variant.coded is None or variant.mag_index > 0:
            continue
        grid = decoded_grid(variant, tables, scale)
        rng = generator(config.seed, number)
        drawn = draw_level(variant, grid, zoomldm, renderer, rng)
        # A reader may have the old one mapped: put a new file in its place.
        np.save(variant.folder / "drawn.tmp.npy", drawn)
        (variant.folder / "drawn.tmp.npy").replace(variant.folder / "drawn.npy")


def draw_level(
    variant: Variant,
    grid: Grid | None,
    zoomldm: ZoomLDM,
    renderer: Renderer,
    rng: np.random.Generator,
) -> Pixels:
    """Level 1 of a variant, block by block; blocks of glass are the anchor enlarged."""
    assert variant.coded is not None
    out = _bytes(double(np.asarray(variant.coded, np.float32)))
    side = BLOCK + 2 * MARGIN
    for y in range(0, out.shape[0], BLOCK):
        for x in range(0, out.shape[1], BLOCK):
            if variant.tissue_in(LEVEL, y, x, BLOCK) < 0.01:
                continue
            region = Region(y - MARGIN, x - MARGIN, y + BLOCK + MARGIN, x + BLOCK + MARGIN)
            parent = cut(variant.coded, region.y0 // 2, region.x0 // 2, side // 2)
            cond = np.zeros(
                (zoomldm.config.summarizer.embedding_width + 1, side // 32, side // 32), np.float32
            )
            if grid is not None:
                cond = conditioning_map(grid.vectors, grid.valid, (0, 0), region, LEVEL)
            whole = _draw_block(parent, cond, variant.mag_index + LEVEL, zoomldm, renderer, rng)
            inner = whole[MARGIN:-MARGIN, MARGIN:-MARGIN]
            part = out[y : y + BLOCK, x : x + BLOCK]
            part[:] = inner[: part.shape[0], : part.shape[1]]
    return out


@torch.no_grad()
def _draw_block(
    parent: Pixels,
    cond: NDArray[np.float32],
    mag: int,
    zoomldm: ZoomLDM,
    renderer: Renderer,
    rng: np.random.Generator,
) -> Pixels:
    cells = 2 * parent.shape[0] // FACTOR
    noise = rng.standard_normal((renderer.config.latent_channels, cells, cells), np.float32)
    batch = {
        "noise": torch.from_numpy(noise)[None],
        "parent": torch.from_numpy(parent.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1,
        "has_parent": torch.ones(1),
        "cond": torch.from_numpy(cond)[None],
        "mag": torch.tensor([mag]),
    }
    rgb = render(renderer, batch, draw(zoomldm, batch, 1))[0]
    drawn = ((rgb + 1) * 127.5).permute(1, 2, 0).numpy()
    return _bytes(lock_colour(drawn, parent.astype(np.float32)))


def _bytes(image: NDArray[np.float32]) -> Pixels:
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)
