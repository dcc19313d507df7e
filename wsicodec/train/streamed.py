"""Variants of slides that are streamed: flipped and re-stained while they are read.

A variant's frame is its slide's, filled up with white to whole patches and then turned, so every
level of it is exactly half the one below and patches of the turned slide are patches turned. Only
the embedding grid is made beforehand (stage `variants`) and kept: a coarse window has thousands of
patches under it. Latents and the anchor are made of the pixels of a sample.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.geometry import PATCH, grid_shape
from wsicodec.models.autoencoder import FACTOR, PixelShuffleAutoencoder
from wsicodec.resample import box_reduce
from wsicodec.train import augment
from wsicodec.train.augment import StainBend
from wsicodec.train.data import DataConfig, Pixels, generator, load_pictures, load_slides
from wsicodec.train.slides import StreamedSlide
from wsicodec.train.variants import (
    ANCHOR,
    MARGIN,
    SEED_STRIDE,
    Embed,
    Floats,
    Variant,
    VariantConfig,
    anchor_quality,
    code_anchor,
    embed_cells,
    load_variants,
)

BESIDE = 16  # pixels that are coded beside what is wanted
LEAST_TISSUE = 0.02  # of a patch, for it to be embedded

Encode = Callable[[Pixels], Floats]  # (h, w, 3) pixels to latents (h / 8, w / 8, c)


@dataclass(frozen=True)
class StreamedVariant:
    """One slide in one variant, in the role of a `Variant`."""

    slide: StreamedSlide
    code: int  # of `augment.turn`
    bend: StainBend | None = field(repr=False)
    quality: int | None  # of the JPEG that embeddings and anchor are made from
    rates: dict[int, float]  # by level that is stored, bits per level-0 pixel of tissue
    encode: Encode = field(repr=False)
    grid: Path = field(repr=False)  # folder of its embedding grid

    @property
    def source(self) -> str:
        """Where the slide comes from."""
        return self.slide.source

    @property
    def kind(self) -> str:
        """What the index says the slide is."""
        return self.slide.kind

    @property
    def mag_index(self) -> int:
        """Magnification index of level 0."""
        return self.slide.mag_index

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the embedding grid."""
        rows, columns = grid_shape(self.slide.shape)
        return (columns, rows) if self.code & 1 else (rows, columns)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width in pixels of every level."""
        rows, columns = self.cells
        sides = [PATCH >> level for level in range(len(self.slide.shapes))]
        return [(rows * side, columns * side) for side in sides]

    def _upright(self, level: int, y: int, x: int, side: int) -> tuple[int, int]:
        rows, columns = self.cells
        return unturned(self.code, y, x, side, (rows * PATCH >> level, columns * PATCH >> level))

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""
        return self.slide.tissue_in(level, *self._upright(level, y, x, side), side)

    def corners(
        self, rng: np.random.Generator, level: int, side: int, count: int
    ) -> list[tuple[int, int]]:
        """Corners of windows in pixels of `level`, each laid at random over tissue."""
        rows, columns = grid_shape(self.slide.shape)
        shape = rows * PATCH >> level, columns * PATCH >> level
        back = self.code if self.code & 4 else -self.code & 3
        found = self.slide.corners(rng, level, side, count)
        return [unturned(back, y, x, side, shape) for y, x in found]

    def crop(self, level: int, y: int, x: int, side: int) -> Pixels:
        """A square of pixels (side, side, 3) of a level; white outside."""
        corner = self._upright(level, y, x, side)
        rgb = self.slide.crop(level, *corner, side, self.bend)
        return np.ascontiguousarray(augment.turn(rgb, self.code)).astype(np.uint8, copy=False)

    def latent(self, level: int, y: int, x: int, side: int) -> Floats:
        """Latents (side / 8, side / 8, c) of a square of pixels of a level."""
        edge, cells = MARGIN // FACTOR, side // FACTOR
        latent = self.encode(self.crop(level, y - MARGIN, x - MARGIN, side + 2 * MARGIN))
        return latent[edge : edge + cells, edge : edge + cells]

    def coded_at(self, level: int, y: int, x: int, side: int) -> Pixels | None:
        """A square of a level after its codec, or None where it is not stored."""
        if level not in self.rates:
            return None
        whole, factor = side + 2 * BESIDE, 1 << level
        corner = y - BESIDE, x - BESIDE
        rgb = self.crop(0, corner[0] * factor, corner[1] * factor, whole * factor)
        seen = box_reduce(augment.jpeg_again(rgb, self.quality), factor)
        tissue = self.tissue_in(level, *corner, whole)
        coded = code_anchor(seen, anchor_quality(seen, tissue, self.rates[level], level))
        return coded[BESIDE : BESIDE + side, BESIDE : BESIDE + side]

    def drawn_at(self, _level: int, _y: int, _x: int, _side: int) -> Pixels | None:
        """None: what a denoiser once drew is kept for pictures alone (stage `redraw`)."""
        return None

    def embeddings(self) -> tuple[NDArray[np.float16], NDArray[np.bool_]] | None:
        """Raw grid (gh, gw, d), memory-mapped, and which cells are valid, once it was made."""
        if not (self.grid / "grid.npy").exists():
            return None
        return np.load(self.grid / "grid.npy", mmap_mode="r"), np.load(self.grid / "valid.npy")

    def make_embeddings(self, embed: Embed) -> None:
        """Write the embedding grid, from the variant's own pixels."""
        rows, columns = self.cells
        share = [
            [self.tissue_in(0, y * PATCH, x * PATCH, PATCH) for x in range(columns)]
            for y in range(rows)
        ]
        marked = np.array(share) > LEAST_TISSUE

        def read(y: int, x: int) -> Pixels:
            return augment.jpeg_again(self.crop(0, y, x, PATCH), self.quality)

        grid, valid = embed_cells(read, marked, embed)
        self.grid.mkdir(parents=True, exist_ok=True)
        np.save(self.grid / "valid.npy", valid)
        temporary = self.grid / f"grid.{os.getpid()}.tmp.npy"
        np.save(temporary, grid.astype(np.float16))
        temporary.replace(self.grid / "grid.npy")


def unturned(code: int, y: int, x: int, side: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Where a square was before its image, now of `shape`, was turned by `augment.turn`."""
    height, width = shape
    if code & 4:
        x = width - x - side
    for _ in range(code & 3):
        y, x, height, width = x, height - y - side, width, height
    return y, x


def stream_variants(
    slides: Sequence[StreamedSlide], config: VariantConfig, encode: Encode
) -> list[StreamedVariant]:
    """All slides in `config.count` variants, the first variant of every slide first."""
    found = []
    for number in range(config.count):
        for index, slide in enumerate(slides):
            draw = number * SEED_STRIDE + index
            rng, other = (generator(config.seed + i, draw) for i in (0, 2))
            code = int(rng.integers(8))
            bend = augment.draw_bend(rng, config.augment)
            quality = augment.draw_jpeg(other, config.augment)
            rates = {level: config.rate_of(level, draw) for level in range(1, ANCHOR + 1)}
            folder = Path(config.folder) / f"{number:02d}" / slide.name.replace("/", "_")
            found.append(StreamedVariant(slide, code, bend, quality, rates, encode, folder))
    return found


def open_variants(
    data: DataConfig, config: VariantConfig, autoencoder: PixelShuffleAutoencoder | None = None
) -> Sequence[Variant | StreamedVariant]:
    """What a denoiser is trained on: slides as they are read, else pictures made ready before.

    autoencoder: makes the latents of what is read; not needed where nobody asks for any.
    """
    if data.stream:
        return stream_variants(load_slides(data), config, encoder_of(autoencoder))
    return load_variants(load_pictures(data), config)


def encoder_of(model: PixelShuffleAutoencoder | None) -> Encode:
    """An autoencoder as a function of pixels."""

    @torch.no_grad()
    def encode(rgb: Pixels) -> Floats:
        assert model is not None
        images = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float().div(127.5).sub(1)
        latent = model.encode(images.contiguous(memory_format=torch.channels_last))
        return np.asarray(latent[0].permute(1, 2, 0).numpy(), np.float32)

    return encode
