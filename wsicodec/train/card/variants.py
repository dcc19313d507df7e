"""Variants of the pictures made on the device: pixels, latents, anchors, embeddings, parents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.coding.quantizer import EmbeddingTables, dequantize, quantize
from wsicodec.geometry import LEVELS, PATCH
from wsicodec.models.autoencoder import FACTOR
from wsicodec.train import augment
from wsicodec.train.card.bank import Bank, Where
from wsicodec.train.card.draws import Drawer
from wsicodec.train.card.pixels import as_bends, blocks_of, tissue_map, to_bytes, turn
from wsicodec.train.card.tissue import PackedPicture, Spot, Squares, drawer_of, fill, shapes_of
from wsicodec.train.data import DataConfig, generator, share_of
from wsicodec.train.variants import ANCHOR, CELL, SEED_STRIDE, VariantConfig, assign
from wsicodec.train.variants import BLOCK as BENT  # pixels of level 0 bent or left together

SHORTEST = 128  # pixels a side of the coarsest level that has latents
BLOCK, MARGIN = 256, 32  # pixels encoded at once, and what they see beyond
TOGETHER = 64  # blocks or patches that pass a network at once
STRIP = 1 << 22  # pixels bent at once
ROUND = 7919  # seeds of rounds are this far apart
ANCHORS = LEVELS + 3  # columns before a variant's latents: its levels, its coded and drawn anchor

Network = Callable[[Tensor], Tensor]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Makers:
    """What makes a variant's networks' part: pixels in [-1, 1] to latents and to vectors."""

    encode: Network
    embed: Network
    channels: int  # of a latent
    width: int  # of a vector
    tables: EmbeddingTables | None  # None: vectors stay as they are
    scale: float  # what conditions are divided by


class Variants:
    """All variants of one round, ready to be gathered."""

    def __init__(
        self, pictures: list[PackedPicture], config: VariantConfig, number: int, makers: Makers
    ) -> None:
        """`number` is the round's: every round turns and stains anew."""
        self.device = pictures[0].rgb.device
        self.config = replace(config, seed=config.seed + ROUND * number)
        self.spots: list[Spot] = []
        items = [
            (turns * SEED_STRIDE + index, pictures[index])
            for turns, chosen in enumerate(assign([p.picture for p in pictures], config))
            for index in chosen
            if latent_levels(*pictures[index].rgb.shape[:2]) > 0
        ]
        self._make_room(items, makers.channels)
        planes = np.array([self._add(draw, packed) for draw, packed in items])
        on_device = torch.from_numpy(planes).to(self.device)
        self.pixel_planes, self.latent_planes = on_device[:, : LEVELS + 1], on_device[:, ANCHORS:]
        self.coded, self.drawn = on_device[:, LEVELS + 1], on_device[:, LEVELS + 2]
        self.mags = np.array([spot.mag_index for spot in self.spots])
        self.has_coded = planes[:, LEVELS + 1] >= 0
        self.is_drawn = np.zeros(len(items), bool)  # of which `drawn` has been filled
        self._encode(makers)
        self._embed(makers)

    def _make_room(self, items: list[tuple[int, PackedPicture]], channels: int) -> None:
        pixels = latents = 0
        for _, packed in items:
            height, width = packed.rgb.shape[:2]
            count = latent_levels(height, width)
            shapes = shapes_of(height, width)[: count + 1]
            pixels += sum(h * w for h, w in shapes) + 5 * sum(
                c.shape[0] * c.shape[1] for c in packed.coded[:1]
            )
            latents += sum((h // CELL * 4) * (w // CELL * 4) for h, w in shapes[:count])
        self.pixels = Bank(pixels, 3, torch.uint8, self.device)
        self.latents = Bank(latents, channels, torch.float16, self.device)

    def _add(self, draw: int, packed: PackedPicture) -> Ints:
        """Turn, stain and store one picture; planes of its levels, its anchors, its latents."""
        planes = np.full(ANCHORS + LEVELS + 1, -1)
        rng = generator(self.config.seed, draw)
        code = int(rng.integers(8))
        bend = augment.draw_bend(rng, self.config.augment)
        rgb = turn(packed.rgb, code)
        tissue = tissue_map(rgb)
        rgb = bend_tissue(rgb, tissue, bend, 0)
        count = latent_levels(*rgb.shape[:2])
        levels = fill(self.pixels, rgb, count + 1)
        planes[: len(levels)] = levels
        views = [self.pixels.plane(k) for k in levels]
        shapes = [(v.shape[0] // CELL * CELL, v.shape[1] // CELL * CELL) for v in views[:count]]
        told = packed.picture
        self.spots.append(Spot(told.source, told.kind, told.mag_index, shapes, tissue, views))
        latents = [self.latents.reserve(h // FACTOR, w // FACTOR) for h, w in shapes]
        planes[ANCHORS : ANCHORS + count] = latents
        if packed.coded:
            drawn = generator(self.config.seed + 1, draw).integers(len(packed.coded))
            coded = turn(packed.coded[int(drawn)], code)
            coded = bend_tissue(coded, tissue, bend, ANCHOR)
            planes[LEVELS + 1] = self.pixels.add(coded)
            planes[LEVELS + 2] = self.pixels.reserve(2 * coded.shape[0], 2 * coded.shape[1])
        return planes

    @torch.no_grad()
    def _encode(self, makers: Makers) -> None:
        glass = torch.full((1, 3, 64, 64), 0.9, device=self.device)
        self.latents.flat[:] = makers.encode(glass)[0, :, 4, 4].half()
        rows = [
            (place, level, y, x)
            for place, spot in enumerate(self.spots)
            for level, shape in enumerate(spot.shapes)
            for y, x in tissue_blocks(spot, level, shape)
        ]
        for part in batches(rows):
            place, level, y, x = part.to(self.device).T
            where = Where(self.pixel_planes[place, level], y - MARGIN, x - MARGIN)
            rgb = self.pixels.gather(where, BLOCK + 2 * MARGIN).float().div(127.5).sub(1)
            cut = MARGIN // FACTOR
            latent = makers.encode(rgb)[:, :, cut:-cut, cut:-cut]
            where = Where(self.latent_planes[place, level], y // FACTOR, x // FACTOR)
            self.latents.put(where, latent)

    @torch.no_grad()
    def _embed(self, makers: Makers) -> None:
        """Grids as the decoder will see them: quantised, and pooled for coarse levels."""
        valid = [valid_cells(spot) for spot in self.spots]
        rows = [
            (place, int(y), int(x))
            for place, cells in enumerate(valid)
            for y, x in np.argwhere(cells) * PATCH
        ]
        found = []
        for part in batches(rows):
            place, y, x = part.to(self.device).T
            where = Where(self.pixel_planes[place, 0], y, x)
            patches = self.pixels.gather(where, PATCH, outside=255).float().div(127.5).sub(1)
            found.append(makers.embed(patches).float().cpu().numpy())
        vectors = np.concatenate(found) if found else np.zeros((0, makers.width), np.float32)
        if makers.tables is not None:
            vectors = dequantize(quantize(vectors, makers.tables), makers.tables)
        vectors = vectors / np.float32(makers.scale)
        grids: list[NDArray[np.float32]] = []
        self.grid_planes = torch.full((len(self.spots), LEVELS), -1, device=self.device)
        first = 0
        for place, cells in enumerate(valid):
            count = int(cells.sum())
            if count:
                grid = np.zeros((*cells.shape, vectors.shape[1] + 1), np.float32)
                grid[cells, :-1], grid[cells, -1] = vectors[first : first + count], 1
                self.grid_planes[place] = torch.tensor(_pool(grid, grids), device=self.device)
            first += count
        cells = sum(g.shape[0] * g.shape[1] for g in grids)
        self.grids = Bank(cells, makers.width + 1, torch.float32, self.device)
        for grid in grids:
            self.grids.add(torch.from_numpy(grid))

    def drawer(self, config: DataConfig, side: int) -> Drawer:
        """What draws windows of `side` pixels."""
        return drawer_of(self.spots, config, side)

    def rgb(self, squares: Squares) -> Tensor:
        """Pixels (n, 3, side, side) uint8."""
        where = Where(self.pixel_planes[squares.place, squares.level], squares.y, squares.x)
        return self.pixels.gather(where, squares.side)

    def latent(self, squares: Squares) -> Tensor:
        """Latents (n, c, side / 8, side / 8)."""
        plane = self.latent_planes[squares.place, squares.level]
        where = Where(plane, squares.y // FACTOR, squares.x // FACTOR)
        return self.latents.gather(where, squares.side // FACTOR).float()

    def conditions(self, squares: Squares) -> Tensor:
        """`diffusion.windows.conditioning_map` of windows: (n, d + 1, side / 32, side / 32)."""
        finer = (3 - squares.level).clamp_min(0)  # halvings from a cell up to an embedding's
        steps = torch.arange(squares.side // CELL, device=self.device)
        plane = self.grid_planes[squares.place, squares.level]
        corner = [(torch.div(k, CELL, rounding_mode="floor")) for k in (squares.y, squares.x)]
        rows, columns = (((k[:, None] + steps) >> finer[:, None]) for k in corner)
        reach = len(steps)
        every = Where(
            plane.repeat_interleave(reach * reach),
            rows.repeat_interleave(reach, 1).flatten(),
            columns.repeat(1, reach).flatten(),
        )
        cells = self.grids.gather(every, 1, outside=0)[:, :, 0, 0]
        return cells.unflatten(0, (-1, reach, reach)).permute(0, 3, 1, 2)


def latent_levels(height: int, width: int) -> int:
    """How many levels of a picture have latents."""
    shapes = shapes_of(height, width)[:LEVELS]
    return sum(min(h // CELL, w // CELL) * CELL >= SHORTEST for h, w in shapes)


def bend_tissue(
    rgb: Tensor, tissue: NDArray[np.float32], bend: augment.StainBend | None, level: int
) -> Tensor:
    """`variants.bend_blocks` of a level (h, w, 3): blocks of pure glass stay as they are."""
    if bend is None:
        return rgb
    side = BENT >> level
    height, width = rgb.shape[:2]
    corners = blocks_of(height, width, side)
    small = min(height, width) < side
    kept = [small or share_of(tissue, level, int(y), int(x), side) > 0 for y, x in corners]
    grid = torch.tensor(kept, device=rgb.device).view(-(-height // side), -(-width // side))
    mask = grid.repeat_interleave(side, 0).repeat_interleave(side, 1)[:height, :width, None]
    bends, out = as_bends(bend, rgb.device), rgb.clone()
    rows = max(STRIP // width, 1)
    for y in range(0, height, rows):
        part = rgb[y : y + rows]
        bent = to_bytes(bends.apply(part.permute(2, 0, 1)[None]))[0]
        out[y : y + rows] = torch.where(mask[y : y + rows], bent, part)
    return out


def tissue_blocks(spot: Spot, level: int, shape: tuple[int, int]) -> list[tuple[int, int]]:
    """Corners of the blocks of a level that are worth a network's time."""
    corners = [(int(y), int(x)) for y, x in blocks_of(*shape, BLOCK)]
    if len(corners) < 4:
        return corners
    return [(y, x) for y, x in corners if spot.tissue_in(level, y, x, BLOCK) > 0.01]


def valid_cells(spot: Spot) -> NDArray[np.bool_]:
    """Which cells of a place's embedding grid hold tissue; an overview has no grid."""
    height, width = spot.levels[0].shape[:2]
    rows, columns = -(-height // PATCH), -(-width // PATCH)
    if spot.kind == "overview":
        return np.zeros((rows, columns), bool)
    corners = blocks_of(height, width, PATCH)
    found = [spot.tissue_in(0, int(y), int(x), PATCH) > 0.02 for y, x in corners]
    return np.array(found).reshape(rows, columns)


def batches(rows: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """Rows of whole numbers in parts that pass a network at once."""
    return list(torch.tensor(rows, dtype=torch.int64).split(TOGETHER)) if rows else []


def _pool(grid: NDArray[np.float32], grids: list[NDArray[np.float32]]) -> list[int]:
    """Append a grid and its poolings to `grids`; the plane that each level reads."""
    planes = [len(grids)] * 4
    grids.append(grid)
    for _ in range(4, LEVELS):
        height, width = grid.shape[:2]
        even = np.pad(grid, ((0, height % 2), (0, width % 2), (0, 0)))
        grid = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, -1).mean((1, 3))
        planes.append(len(grids))
        grids.append(grid.astype(np.float32))
    return planes
