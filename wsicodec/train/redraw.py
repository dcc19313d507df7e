"""Stage `redraw`: levels 1 and 2 of the variants as a denoiser draws them, to be parents.

A child's parent is drawn, not seen, and its errors are the drawer's own; training on them is what
keeps errors from piling up. Drawn once per variant in one step: level 1 from the coded anchor, and
level 2, which is drawn where no anchor is stored, from the true level above.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.diffusion.windows import lock_colour
from wsicodec.geometry import Region
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.renderer import Renderer
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.resample import box_reduce, double
from wsicodec.train.bundle import load_renderer, load_tables, load_zoomldm
from wsicodec.train.data import DataConfig, Pixels, generator, load_pictures
from wsicodec.train.loop import rank_of_process
from wsicodec.train.variants import (
    ANCHOR,
    BLOCK,
    CELL,
    MARGIN,
    Variant,
    VariantConfig,
    cut,
    load_variants,
)
from wsicodec.train.zoomldm import Grid, decoded_grid, draw, render


@dataclass(frozen=True, slots=True)
class Redrawing:
    """Which networks draw which variants."""

    zoomldm: str = "runs/distill"  # denoiser and renderer
    tables: str = "runs/codec"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)


def redraw(config: Redrawing) -> None:
    """Write `drawn_1.npy` and `drawn_2.npy` beside every variant that has a coded anchor.

    Under torchrun every process draws variants of its own.
    """
    zoomldm, _ = load_zoomldm(Path(config.zoomldm))
    renderer, _ = load_renderer(Path(config.zoomldm))
    tensors, scale = load_tables(Path(config.tables))
    tables = EmbeddingTables.from_tensors(tensors)
    variants = load_variants(load_pictures(config.data), config.variants)
    rank, ranks = rank_of_process()
    for number, variant in list(enumerate(variants))[rank::ranks]:
        if ANCHOR not in variant.coded or variant.mag_index > 0:
            continue
        drawer = _Drawer(zoomldm, renderer, generator(config.seed, number))
        grid = decoded_grid(variant, tables, scale)
        higher = box_reduce(variant.levels[ANCHOR], 2)
        for level, above in ((ANCHOR - 1, variant.coded[ANCHOR]), (ANCHOR, higher)):
            drawn = drawer.level(variant, grid, level, above)
            # A reader may have the old one mapped: put a new file in its place.
            temporary = variant.folder / "drawn.tmp.npy"
            np.save(temporary, drawn)
            temporary.replace(variant.folder / f"drawn_{level}.npy")


@dataclass(frozen=True)
class _Drawer:
    """What draws, and where its noise comes from."""

    zoomldm: ZoomLDM
    renderer: Renderer
    rng: np.random.Generator

    def level(self, variant: Variant, grid: Grid | None, level: int, above: Pixels) -> Pixels:
        """A level of a variant, block by block; blocks of glass are the level above enlarged.

        above: pixels of the level above, what is drawn from
        """
        out = _bytes(double(np.asarray(above, np.float32)))
        side = BLOCK + 2 * MARGIN
        width = self.zoomldm.config.summarizer.embedding_width
        for y in range(0, out.shape[0], BLOCK):
            for x in range(0, out.shape[1], BLOCK):
                if variant.tissue_in(level, y, x, BLOCK) < 0.01:
                    continue
                region = Region(y - MARGIN, x - MARGIN, y + BLOCK + MARGIN, x + BLOCK + MARGIN)
                parent = cut(above, region.y0 // 2, region.x0 // 2, side // 2)
                told = np.zeros((width + 1, side // CELL, side // CELL), np.float32)
                if grid is not None:
                    told = grid.under(region, level)
                whole = self._block(parent, told, variant.mag_index + level)
                inner = whole[MARGIN:-MARGIN, MARGIN:-MARGIN]
                part = out[y : y + BLOCK, x : x + BLOCK]
                part[:] = inner[: part.shape[0], : part.shape[1]]
        return out

    @torch.no_grad()
    def _block(self, parent: Pixels, told: NDArray[np.float32], mag: int) -> Pixels:
        cells = 2 * parent.shape[0] // FACTOR
        shape = (self.renderer.config.latent_channels, cells, cells)
        batch = {
            "noise": torch.from_numpy(self.rng.standard_normal(shape, np.float32))[None],
            "parent": torch.from_numpy(parent.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1,
            "has_parent": torch.ones(1),
            "cond": torch.from_numpy(told)[None],
            "mag": torch.tensor([mag]),
        }
        rgb = render(self.renderer, batch, draw(self.zoomldm, batch, 1))[0]
        drawn = ((rgb + 1) * 127.5).permute(1, 2, 0).numpy()
        return _bytes(lock_colour(np.clip(drawn, 0, 255), parent.astype(np.float32)))


def _bytes(image: NDArray[np.float32]) -> Pixels:
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)
