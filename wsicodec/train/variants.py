"""Tissue made ready for the denoiser: flipped, re-stained, encoded and embedded, once per variant.

A variant of a picture is a folder: its latents and pixels of every level, the levels that presets
store as their codec leaves them, and its embedding grid. Everything is computed from the variant's
own pixels, so flips and stains reach latents, parents and embeddings alike.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.geometry import LEVELS, PATCH
from wsicodec.metrics.stains import optical_density
from wsicodec.models.autoencoder import FACTOR, PixelShuffleAutoencoder
from wsicodec.resample import box_reduce
from wsicodec.train import augment
from wsicodec.train.augment import AugmentConfig, StainBend
from wsicodec.train.data import Picture, Pixels, generator, share_of, tissue_map

ANCHOR = 2  # level that is stored, but for the finer anchor of preset `detail`
BLOCK, MARGIN = 512, 32  # pixels encoded at once, and what they see beyond
CELL = 32  # pixels; levels are cut to whole conditioning cells
AT_ONCE = 16  # patches that are embedded together
EVEN = 0.04  # deviation of green's density: glass has 0.01, nine in ten patches of tissue 0.15
SEED_STRIDE = 100_000  # variants of a picture are this far apart in the stream of draws

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VariantConfig:
    """How many variants there are, and how they are made."""

    folder: str = "cache/variants"
    count: int = 8
    seed: int = 0
    area: float = 8.0  # megapixels of tissue per source and variant; more is spread over variants
    rates: tuple[float, ...] = (0.0225, 0.0225, 0.0225, 0.0225, 0.012, 0.03, 0.04, 0.06, 0.09)
    # of the anchor's AVIF, bits per level-0 pixel of tissue, one drawn per picture: the preset's,
    # and others either side of it, since a slide of unlike tissue misses its rate
    finer_rates: tuple[float, ...] = (0.1, 0.1, 0.05, 0.14, 0.2)  # the same a level below
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def rate_of(self, level: int, index: int) -> float:
        """The rate at which a variant's level is stored, ANCHOR or the one below; `index` seeds."""
        rates = self.rates if level == ANCHOR else self.finer_rates
        return float(generator(self.seed + 1, index).choice(rates))


@dataclass(frozen=True)
class Variant:
    """One picture in one variant, memory-mapped; levels as in the picture."""

    folder: Path
    source: str
    kind: str
    mag_index: int
    latents: list[NDArray[np.float16]] = field(repr=False)  # (h / 8, w / 8, c)
    levels: list[Pixels] = field(repr=False)  # one more than there are latents
    coded: dict[int, Pixels] = field(repr=False)  # by level, after its codec
    drawn: dict[int, Pixels] = field(repr=False)  # the same, as once drawn
    tissue: Floats = field(repr=False)

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width in pixels of every level that has latents."""
        return [(a.shape[0] * FACTOR, a.shape[1] * FACTOR) for a in self.latents]

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""
        return share_of(self.tissue, level, y, x, side)

    def crop(self, level: int, y: int, x: int, side: int) -> Pixels:
        """A square of pixels (side, side, 3) of a level; edges repeat."""
        return cut(self.levels[level], y, x, side)

    def latent(self, level: int, y: int, x: int, side: int) -> NDArray[np.floating]:
        """Latents (side / 8, side / 8, c) of a square of pixels of a level, at whole cells."""
        y, x, cells = y // FACTOR, x // FACTOR, side // FACTOR
        return self.latents[level][y : y + cells, x : x + cells]

    def coded_at(self, level: int, y: int, x: int, side: int) -> Pixels | None:
        """A square of a level after its codec, or None where it is not stored."""
        return cut(self.coded[level], y, x, side) if level in self.coded else None

    def drawn_at(self, level: int, y: int, x: int, side: int) -> Pixels | None:
        """A square of a level as it was once drawn, or None."""
        return cut(self.drawn[level], y, x, side) if level in self.drawn else None

    def embeddings(self) -> tuple[Floats, NDArray[np.bool_]] | None:
        """Raw grid (gh, gw, d) and which cells are valid, once they have been computed."""
        path = self.folder / "grid.npy"
        if not path.exists():
            return None
        return np.load(path), np.load(self.folder / "valid.npy")


def cut(image: Pixels, y: int, x: int, side: int) -> Pixels:
    """A square of an image; beyond the border its edge repeats."""
    h, w = image.shape[:2]
    if y >= 0 and x >= 0 and y + side <= h and x + side <= w:
        return np.ascontiguousarray(image[y : y + side, x : x + side])
    rows = np.clip(np.arange(y, y + side), 0, h - 1)
    columns = np.clip(np.arange(x, x + side), 0, w - 1)
    return np.asarray(image[rows[:, None], columns[None, :]])


def assign(pictures: Sequence[Picture], config: VariantConfig) -> list[list[int]]:
    """Which pictures each variant holds: large sources are spread over several variants."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for number, picture in enumerate(pictures):
        by_source[picture.source].append(number)
    rounds: list[list[int]] = [[] for _ in range(config.count)]
    for numbers in by_source.values():
        areas = [float(pictures[n].tissue.mean()) * _area(pictures[n]) / 1e6 for n in numbers]
        turns = min(len(numbers), max(1, math.ceil(sum(areas) / config.area)))
        for variant, chosen in enumerate(rounds):
            chosen.extend(numbers[variant % turns :: turns])
    return rounds


def _area(picture: Picture) -> float:
    h, w = picture.shapes[0]
    return float(h * w)


def bend_blocks(rgb: Pixels, tissue: Floats, bend: StainBend | None) -> Pixels:
    """A copy with its tissue re-stained; blocks of pure glass stay as they are."""
    out = np.array(rgb)
    if bend is None:
        return out
    for y in range(0, out.shape[0], BLOCK):
        for x in range(0, out.shape[1], BLOCK):
            if share_of(tissue, 0, y, x, BLOCK) > 0 or min(out.shape[:2]) < BLOCK:
                part = (slice(y, y + BLOCK), slice(x, x + BLOCK))
                out[part] = bend.apply(out[part])
    return out


@torch.no_grad()
def encode_level(model: PixelShuffleAutoencoder, rgb: Pixels, keep: NDArray[np.bool_]) -> Floats:
    """Latents (h / 8, w / 8, c) of an image whose sides are multiples of CELL.

    `keep` says per block whether it is worth encoding; the rest takes the latent of glass.
    """
    height, width = rgb.shape[0] // FACTOR, rgb.shape[1] // FACTOR
    glass = torch.full((1, 3, 64, 64), 0.9)
    empty = model.encode(glass)[0, :, 4, 4].numpy()
    out = np.tile(empty, (height, width, 1))
    for by, bx in np.argwhere(keep):
        y, x = by * BLOCK, bx * BLOCK
        top, left = max(y - MARGIN, 0), max(x - MARGIN, 0)
        part = rgb[top : y + BLOCK + MARGIN, left : x + BLOCK + MARGIN]
        pixels = torch.from_numpy(part.transpose(2, 0, 1).copy()).float().div(127.5).sub(1)[None]
        latent = model.encode(pixels.contiguous(memory_format=torch.channels_last))[0]
        inner = latent.permute(1, 2, 0)[(y - top) // FACTOR :, (x - left) // FACTOR :]
        inner = inner[: BLOCK // FACTOR, : BLOCK // FACTOR]
        y8, x8 = y // FACTOR, x // FACTOR
        out[y8 : y8 + inner.shape[0], x8 : x8 + inner.shape[1]] = inner.numpy()
    return out


def _kept(tissue: Floats, level: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    kept = [
        [share_of(tissue, level, y * BLOCK, x * BLOCK, BLOCK) > 0.01 for x in range(columns)]
        for y in range(rows)
    ]
    return np.array(kept) | (rows * columns < 4)


def finest(picture: Picture, index: int, config: VariantConfig) -> tuple[Pixels, Floats]:
    """Level 0 of a variant and its tissue map; `index` seeds its flip, its stain and its scale."""
    rng = generator(config.seed, index)
    code = int(rng.integers(8))
    bend = augment.draw_bend(rng, config.augment)
    turned = np.ascontiguousarray(augment.turn(picture.levels[0], code)).astype(np.uint8)
    turned = augment.shrink(turned, augment.draw_zoom(rng, config.augment))
    tissue = tissue_map(turned)
    return bend_blocks(turned, tissue, bend), tissue


def blemished(rgb: Pixels, index: int, config: VariantConfig) -> Pixels:
    """Level 0 of a variant as a poorer file of it would be: what is stored is made from this one.

    The networks that draw are asked for the better one all the same.
    """
    rng = generator(config.seed + 2, index)
    return augment.jpeg_again(rgb, augment.draw_jpeg(rng, config.augment))


def anchor_quality(rgb: Pixels, tissue: float, bpp: float, level: int = ANCHOR) -> int:
    """The quality in which an anchor with a share of tissue keeps to a rate, as encoding does.

    Pictures here are small: what every file has, however empty, is not counted.

    rgb: pixels of `level`
    bpp: bits per level-0 pixel of tissue
    """
    from wsicodec.coding.images import ImageFormat, best_quality, encode_image

    area = rgb.shape[0] * rgb.shape[1] << 2 * level
    empty = len(encode_image(np.zeros_like(rgb), ImageFormat("avif", 18)))
    return best_quality(rgb, "avif", bpp * area * tissue / 8 + empty)


def code_anchor(rgb: Pixels, quality: int) -> Pixels:
    """The anchor as a reader gets it."""
    from wsicodec.coding.images import ImageFormat, decode_image, encode_image

    form = ImageFormat("avif", quality)
    return decode_image(encode_image(rgb, form), form, (rgb.shape[0], rgb.shape[1]))


def make_latents(
    picture: Picture,
    index: int,
    model: PixelShuffleAutoencoder,
    config: VariantConfig,
    folder: Path,
) -> None:
    """Write latents, coarser pixels and the coded anchor of one variant of a picture."""
    level, tissue = finest(picture, index, config)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tissue.npy", tissue)
    np.save(folder / "rgb_0.npy", level)
    seen = blemished(level, index, config)
    for k in range(LEVELS):
        h, w = (n // CELL * CELL for n in level.shape[:2])
        if min(h, w) < 128:
            break
        whole = level[:h, :w]
        latent = encode_level(model, whole, _kept(tissue, k, (h, w)))
        np.save(folder / f"latent_{k}.npy", latent.astype(np.float16))
        level = box_reduce(level, 2)
        np.save(folder / f"rgb_{k + 1}.npy", level)
        if k + 1 <= ANCHOR:
            rate = config.rate_of(k + 1, index)
            above = box_reduce(seen, 1 << k + 1)
            quality = anchor_quality(above, float(tissue.mean()), rate, k + 1)
            np.save(folder / f"coded_{k + 1}.npy", code_anchor(above, quality))
    (folder / "done.json").write_text(json.dumps({"index": index}))


def make_embeddings(
    picture: Picture, index: int, embed: "Embed", config: VariantConfig, folder: Path
) -> None:
    """Write the embedding grid of one variant of a picture, whose latents exist."""
    level, tissue = finest(picture, index, config)
    grid, valid = embed_grid(blemished(level, index, config), tissue, embed)
    np.save(folder / "valid.npy", valid)
    np.save(folder / "grid.npy", grid)


Embed = Callable[[Pixels], Floats]  # (n, 256, 256, 3) patches to (n, d)


def embed_grid(rgb: Pixels, tissue: Floats, embed: Embed) -> tuple[Floats, NDArray[np.bool_]]:
    """The embedding grid of a level 0, padded with white to whole patches, and its valid cells."""
    rows, columns = -(-rgb.shape[0] // PATCH), -(-rgb.shape[1] // PATCH)
    valid = np.array(
        [
            [share_of(tissue, 0, y * PATCH, x * PATCH, PATCH) > 0.02 for x in range(columns)]
            for y in range(rows)
        ]
    )

    def read(y: int, x: int) -> Pixels:
        patch = np.full((PATCH, PATCH, 3), 255, np.uint8)
        part = rgb[y : y + PATCH, x : x + PATCH]
        patch[: part.shape[0], : part.shape[1]] = part
        return patch

    return embed_cells(read, valid, embed)


def even(patch: Pixels) -> bool:
    """Whether a patch varies as little as glass does, whatever a map of tissue says of it."""
    return bool(optical_density(patch[..., 1]).std() < EVEN)


def embed_cells(
    read: Callable[[int, int], Pixels], marked: NDArray[np.bool_], embed: Embed
) -> tuple[Floats, NDArray[np.bool_]]:
    """The embedding grid (gh, gw, d), and which cells are valid: marked, and not even; else zero.

    read: the patch (PATCH, PATCH, 3) whose corner is at (y, x), pixels of level 0.
    marked: cells that a map of tissue names.
    """
    cells = np.argwhere(marked)
    valid, vectors = np.zeros_like(marked), [np.zeros((0, 1), np.float32)]
    for first in range(0, len(cells), AT_ONCE):
        batch = cells[first : first + AT_ONCE]
        patches = np.stack([read(int(y) * PATCH, int(x) * PATCH) for y, x in batch])
        kept = np.array([not even(patch) for patch in patches])
        valid[tuple(batch[kept].T)] = True
        if kept.any():
            vectors.append(embed(patches[kept]))
    found = np.concatenate(vectors[1:] or vectors)
    grid = np.zeros((*valid.shape, found.shape[1]), np.float32)
    grid[valid] = found
    return grid, valid


def load_variants(pictures: Sequence[Picture], config: VariantConfig) -> list[Variant]:
    """Every finished variant, in order."""
    found = []
    for number, chosen in enumerate(assign(pictures, config)):
        for index in chosen:
            folder = variant_folder(config, number, pictures[index])
            if (folder / "done.json").exists():
                found.append(_open(folder, pictures[index]))
    return found


def variant_folder(config: VariantConfig, number: int, picture: Picture) -> Path:
    """Where a picture's variant lies."""
    return Path(config.folder) / f"{number:02d}" / picture.name.replace("/", "_")


def _open(folder: Path, picture: Picture) -> Variant:
    def stored(name: str) -> dict[int, Pixels]:
        paths = {level: folder / f"{name}_{level}.npy" for level in range(1, ANCHOR + 1)}
        return {k: np.load(path, mmap_mode="r") for k, path in paths.items() if path.exists()}

    latents = [
        np.load(folder / f"latent_{k}.npy", mmap_mode="r")
        for k in range(LEVELS)
        if (folder / f"latent_{k}.npy").exists()
    ]
    levels = [np.load(folder / f"rgb_{k}.npy", mmap_mode="r") for k in range(len(latents) + 1)]
    tissue = np.load(folder / "tissue.npy")
    return Variant(
        folder,
        picture.source,
        picture.kind,
        picture.mag_index,
        latents,
        levels,
        stored("coded"),
        stored("drawn"),
        tissue,
    )
