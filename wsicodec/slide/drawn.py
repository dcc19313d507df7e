"""A drawn H&E slide: for demonstrations, tests and measurements without anybody's tissue.

Macro-tiles of four kinds of tissue (`wsicodec.slide.textures`) are mixed by slowly varying maps,
coloured by the law of Beer and Lambert, and streamed into a pyramidal tiled JPEG TIFF.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsicodec.geometry import PATCH
from wsicodec.resample import box_reduce
from wsicodec.slide.textures import (
    KINDS,
    MACRO,
    STAIN_MAX,
    Field,
    draw_macro_tile,
    wrapped_noise,
)

TILE = PATCH
STEP = 4  # between the levels of the drawn pyramid
QUALITY = 85  # of its JPEG tiles
MPP = 0.5  # µm per pixel that its resolution tags state
CELL = 64  # pixels; the maps are drawn on a grid this coarse
GLASS = (243.0, 242.0, 244.0)
# Optical density per unit of stain in R, G, B, by eye after scanned sections.
HAEMATOXYLIN, EOSIN = (0.60, 0.76, 0.36), (0.13, 0.84, 0.40)
INK = (1.6, 0.95, 0.30)  # optical density of a blue marker


def draw_slide(
    path: str | os.PathLike[str], size: tuple[int, int] = (4096, 4096), seed: int = 0
) -> None:
    """Draw a slide into a pyramidal tiled JPEG TIFF that OpenSlide opens, 0.5 µm per pixel.

    path: the file to write; replaced if it exists.
    size: height and width of the finest level, pixels.
    seed: the same seed and size give the same slide.
    """
    painter = _Painter(size, seed)
    resolution = 10_000 / MPP
    with tifffile.TiffWriter(Path(path), bigtiff=size[0] * size[1] > 1 << 31) as tif:
        pyramid = _Pyramid(size)
        for level, (shape, tiles) in enumerate(pyramid.levels(painter)):
            scale = STEP**level
            tif.write(
                tiles,
                shape=(*shape, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                compression="jpeg",
                photometric="ycbcr",
                subsampling=(2, 2),
                subfiletype=1 if level else 0,
                resolution=(resolution / scale, resolution / scale),
                resolutionunit="CENTIMETER",
                metadata=None,
            )


class _Pyramid:
    """Coded tiles of every level, of which level 0 is drawn while it is written."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.shapes = [size]
        while max(self.shapes[-1]) > 2 * TILE or len(self.shapes) < 3:
            height, width = self.shapes[-1]
            self.shapes.append((-(-height // STEP), -(-width // STEP)))
        self._coded: list[list[bytes]] = [[] for _ in self.shapes]
        self._rows = [_blank(TILE, _round_up(w, STEP * TILE)) for _, w in self.shapes[1:]]

    def levels(self, painter: "_Painter") -> Iterator[tuple[tuple[int, int], Iterator[bytes]]]:
        yield self.shapes[0], self._draw(painter)
        for shape, coded in zip(self.shapes[1:], self._coded[1:], strict=True):
            yield shape, iter(coded)

    def _draw(self, painter: "_Painter") -> Iterator[bytes]:
        height, width = self.shapes[0]
        empty = painter.glass()
        coded_empty = _encode(empty)
        reduced_empty = box_reduce(empty, STEP)
        across = -(-width // TILE)
        for ty in range(-(-height // TILE)):
            for tx in range(across):
                tile = painter.tile(ty, tx)
                self._put(0, ty, tx, reduced_empty if tile is None else box_reduce(tile, STEP))
                if tx == across - 1:  # before the tile is handed out: nobody asks after the last
                    self._finish_row(0, ty)
                yield coded_empty if tile is None else _encode(tile)

    def _put(self, level: int, ty: int, tx: int, reduced: NDArray[np.uint8]) -> None:
        side = TILE // STEP
        y, x = ty % STEP * side, tx * side
        self._rows[level][y : y + side, x : x + side] = reduced

    def _finish_row(self, level: int, ty: int) -> None:
        """Code a row of tiles of the next level as soon as the last row beneath it is there."""
        last = ty == -(-self.shapes[level][0] // TILE) - 1
        if level + 1 == len(self.shapes) or not (last or ty % STEP == STEP - 1):
            return
        row, above = self._rows[level], level + 1
        for tx in range(-(-self.shapes[above][1] // TILE)):
            tile = row[:, tx * TILE : (tx + 1) * TILE]
            self._coded[above].append(_encode(tile))
            if above + 1 < len(self.shapes):
                self._put(above, ty // STEP, tx, box_reduce(tile, STEP))
        row[...] = np.asarray(GLASS, np.uint8)
        self._finish_row(above, ty // STEP)


@dataclass(frozen=True)
class _Maps:
    """What is where, on a grid of CELL pixels; 0 is the edge of each, above it is inside."""

    tissue: Field
    kinds: tuple[Field, ...]  # for all of KINDS but the first, which is everywhere
    pen: Field
    thickness: Field


class _Painter:
    """Draws any tile of the finest level."""

    def __init__(self, size: tuple[int, int], seed: int) -> None:
        variants = 1 if max(size) <= 2 * MACRO else 2 if max(size) <= 8 * MACRO else 3
        self._tiles = [
            [draw_macro_tile(seed, kind, v) for v in range(variants)] for kind in range(len(KINDS))
        ]
        rng = np.random.default_rng((seed, 99))
        self._edge = 0.5 * wrapped_noise(rng, (MACRO, MACRO), 30, 30)
        self._edge += wrapped_noise(rng, (MACRO, MACRO), 140, 140)
        self._grain = wrapped_noise(rng, (TILE, TILE), 2, 2)[..., None]
        self._pick = rng.integers(0, variants, (64, 64, len(KINDS)))
        self._maps = _draw_maps(rng, size)
        self._colours = _colours()
        self._up = _upsampling()

    def glass(self) -> NDArray[np.uint8]:
        """A tile without tissue."""
        shade = np.asarray(GLASS, np.float32) + 0.8 * self._grain
        return np.asarray(np.clip(shade + 0.5, 0, 255), np.uint8)

    def tile(self, ty: int, tx: int) -> NDArray[np.uint8] | None:
        """The tile in row `ty`, column `tx`, (TILE, TILE, 3); None if it is all glass."""
        at = (ty * TILE % MACRO, tx * TILE % MACRO)
        inside = (slice(at[0], at[0] + TILE), slice(at[1], at[1] + TILE))
        edge = self._edge[inside]
        tissue = self._mask(self._maps.tissue, ty, tx, edge, 0.035, 20.0)
        pen = self._mask(self._maps.pen, ty, tx, edge, 0.006, 40.0)
        if tissue is None:
            return None if pen is None else self._inked(self.glass(), pen)
        macro = (ty * TILE // MACRO % 64, tx * TILE // MACRO % 64)
        picked = [self._tiles[k][v] for k, v in enumerate(self._pick[macro])]
        stains = np.asarray(picked[0][(slice(None), *inside)], np.float32)
        for texture, field in zip(picked[1:], self._maps.kinds, strict=True):
            weight = self._mask(field, ty, tx, edge, 0.05, 14.0)
            if weight is not None:
                stains += weight * (texture[(slice(None), *inside)] - stains)
        stains *= tissue * self._smooth(self._maps.thickness, ty, tx)
        index = np.clip(stains + 0.5, 0, 255).astype(np.uint16)
        rgb = np.take(self._colours, index[0] * 256 + index[1], axis=0)
        return rgb if pen is None else self._inked(rgb, pen)

    def _smooth(self, field: Field, ty: int, tx: int) -> Field:
        n = TILE // CELL
        part = field[ty * n : ty * n + n + 1, tx * n : tx * n + n + 1]
        return np.asarray(self._up @ part @ self._up.T, np.float32)

    def _mask(
        self, field: Field, ty: int, tx: int, edge: Field, ragged: float, steep: float
    ) -> Field | None:
        """0 to 1 across the ragged zero line of a map; None where it is 0 throughout."""
        n = TILE // CELL
        if field[ty * n : ty * n + n + 1, tx * n : tx * n + n + 1].max() < -5 * ragged:
            return None
        mask = np.clip((self._smooth(field, ty, tx) + ragged * edge) * steep + 0.5, 0, 1)
        return np.asarray(mask, np.float32) if mask.any() else None

    def _inked(self, rgb: NDArray[np.uint8], pen: Field) -> NDArray[np.uint8]:
        streaks = 1 + 0.12 * self._grain
        light = np.exp(-pen[..., None] * streaks * np.asarray(INK, np.float32))
        return np.asarray(np.clip(rgb * light + 0.5, 0, 255), np.uint8)


def _draw_maps(rng: np.random.Generator, size: tuple[int, int]) -> _Maps:
    cells = tuple(_round_up(n, TILE) // CELL + 1 for n in size)
    shape = (cells[0], cells[1])

    def noise(pixels: float) -> Field:
        return wrapped_noise(rng, shape, pixels / CELL, pixels / CELL)

    short = float(min(size))
    y: Field = (np.arange(shape[0], dtype=np.float32) * np.float32(CELL / size[0]))[:, None]
    x: Field = (np.arange(shape[1], dtype=np.float32) * np.float32(CELL / size[1]))[None, :]
    islands = np.maximum.reduce(
        [1 - np.hypot((y - cy) / ry, (x - cx) / rx) for cy, cx, ry, rx in _islands(rng)]
    )
    tissue = islands + 0.12 * noise(short / 3) + 0.05 * noise(min(short / 6, 1500.0))
    pen = _stroke(rng, y, x) * (short / 1000)
    kinds = (0.5 * noise(2600) - 0.1, 0.5 * noise(900) - 0.75, 0.5 * noise(3200) - 0.25)
    thickness = 1 + 0.08 * noise(1800)
    return _Maps(
        tissue.astype(np.float32), kinds, pen.astype(np.float32), thickness.astype(np.float32)
    )


def _islands(rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
    """Centre and radii of the pieces of tissue, as parts of the slide."""
    jitter = rng.uniform(-0.03, 0.03, (4, 4))
    plan = np.array(
        [
            (0.42, 0.38, 0.34, 0.30),
            (0.70, 0.70, 0.20, 0.20),
            (0.20, 0.80, 0.11, 0.12),
            (0.86, 0.20, 0.07, 0.13),
        ]
    )
    return [tuple(row) for row in (plan + jitter).tolist()]


def _stroke(rng: np.random.Generator, y: Field, x: Field) -> Field:
    """A bent pen stroke: positive inside, falling with the distance from its middle line."""
    bend = rng.uniform(0.04, 0.08)
    middle = 0.93 - bend * np.sin(np.pi * (y - 0.25) / 0.4)
    off = np.abs(x - middle)
    beyond = np.maximum(np.abs(y - 0.45) - 0.2, 0)
    return np.asarray(0.012 - np.hypot(off, beyond), np.float32)


def _colours() -> NDArray[np.uint8]:
    """RGB for every pair of stains: row haematoxylin * 256 + eosin."""
    amount = np.arange(256, dtype=np.float32) * (STAIN_MAX / 255)
    absorbed = amount[:, None, None] * np.asarray(HAEMATOXYLIN, np.float32) + amount[
        None, :, None
    ] * np.asarray(EOSIN, np.float32)
    light = np.asarray(GLASS, np.float32) * np.exp(-absorbed)
    return (light + 0.5).astype(np.uint8).reshape(-1, 3)


def _upsampling() -> Field:
    """The matrix that takes a map's cells to a tile's pixels, bilinearly."""
    at = (np.arange(TILE, dtype=np.float32) + 0.5) / CELL
    cells = np.arange(TILE // CELL + 1, dtype=np.float32)
    return np.asarray(np.maximum(0, 1 - np.abs(at[:, None] - cells[None, :])), np.float32)


def _encode(tile: NDArray[np.uint8]) -> bytes:
    return bytes(imagecodecs.jpeg_encode(np.ascontiguousarray(tile), QUALITY, subsampling="420"))


def _blank(height: int, width: int) -> NDArray[np.uint8]:
    return np.broadcast_to(np.asarray(GLASS, np.uint8), (height, width, 3)).copy()


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
