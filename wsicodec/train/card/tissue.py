"""Packed pictures on the device, and windows of them."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from wsicodec.errors import ConfigError
from wsicodec.geometry import LEVELS
from wsicodec.train.card.bank import Bank, Where, send
from wsicodec.train.card.draws import Drawer, Windows
from wsicodec.train.card.pixels import halve
from wsicodec.train.data import DataConfig, Picture, Pixels, Sampler, share_of, tissue_map

INDEX = "pack.json"
FORMAT = 1
SMALLEST = 64  # pixels; a level of pictures has no coarser one below this


@dataclass(frozen=True)
class PackedPicture:
    """One picture; its finest level and that level's anchors lie on the device."""

    picture: Picture  # finest level and tissue map, in main memory
    rgb: Tensor = field(repr=False)  # (h, w, 3) uint8, sides are multiples of a cell
    coded: list[Tensor] = field(repr=False)  # level ANCHOR as its codec leaves it, by quality


@dataclass(frozen=True)
class Spot:
    """Where windows may lie: a place as `data.Sampler` wants it."""

    source: str
    kind: str
    mag_index: int
    shapes: list[tuple[int, int]]  # of the levels that windows may lie on
    tissue: NDArray[np.float32] = field(repr=False)
    levels: list[Tensor] = field(repr=False)  # (h, w, 3) uint8, views of a bank

    def tissue_in(self, level: int, y: int, x: int, side: int) -> float:
        """Tissue fraction of a square window in pixels of `level`."""
        return share_of(self.tissue, level, y, x, side)

    def crop(self, level: int, y: int, x: int, side: int) -> Pixels:
        """A square of pixels (side, side, 3) of `level`."""
        return self.levels[level][y : y + side, x : x + side].cpu().numpy()


@dataclass(frozen=True)
class Squares:
    """Windows on the device, all (n,)."""

    place: Tensor
    level: Tensor
    y: Tensor
    x: Tensor
    side: int

    @classmethod
    def of(cls, windows: Windows, device: torch.device) -> "Squares":
        """Send windows to the device in one piece."""
        rows = np.stack([windows.place, windows.level, windows.y, windows.x])
        place, level, y, x = send(rows, device).unbind()
        return cls(place, level, y, x, windows.side)


class Tissue:
    """Every level of every picture, turned and stained as it came."""

    def __init__(self, pictures: list[PackedPicture], device: torch.device) -> None:
        cells = sum(h * w for p in pictures for h, w in shapes_of(*p.rgb.shape[:2]))
        self.device = device
        self.pixels = Bank(cells, 3, torch.uint8, device)
        self.planes = torch.full((len(pictures), LEVELS + 1), -1, device=device)
        self.spots = []
        for number, packed in enumerate(pictures):
            levels = fill(self.pixels, packed.rgb, len(shapes_of(*packed.rgb.shape[:2])))
            self.planes[number, : len(levels)] = torch.tensor(levels, device=device)
            views = [self.pixels.plane(k) for k in levels]
            shapes = [(v.shape[0], v.shape[1]) for v in views]
            told = packed.picture
            self.spots.append(
                Spot(told.source, told.kind, told.mag_index, shapes, told.tissue, views)
            )

    def drawer(self, config: DataConfig, side: int) -> Drawer:
        """What draws windows of `side` pixels."""
        return drawer_of(self.spots, config, side)

    def rgb(self, squares: Squares) -> Tensor:
        """Pixels (n, 3, side, side) uint8."""
        plane = self.planes[squares.place, squares.level]
        return self.pixels.gather(Where(plane, squares.y, squares.x), squares.side)


def drawer_of(spots: list[Spot], config: DataConfig, side: int) -> Drawer:
    """What draws windows of `side` pixels from `spots`; raises ConfigError when none fits."""
    sampler = Sampler(spots, config, side)
    if not any(sampler.choices):
        raise ConfigError(f"expected pictures of at least {side} pixels a side, found none")
    return Drawer(sampler, [s.tissue for s in spots])


def shapes_of(height: int, width: int) -> list[tuple[int, int]]:
    """Height and width of a picture's levels."""
    shapes = [(height, width)]
    while min(shapes[-1]) >= SMALLEST and len(shapes) <= LEVELS:
        shapes.append((-(-shapes[-1][0] // 2), -(-shapes[-1][1] // 2)))
    return shapes


def fill(bank: Bank, rgb: Tensor, count: int) -> list[int]:
    """Put the first `count` levels of a picture into a bank; gives their planes."""
    numbers = [bank.add(rgb)]
    while len(numbers) < count:
        rgb = halve(rgb)
        numbers.append(bank.add(rgb))
    return numbers


def load_index(folder: Path) -> dict[str, Any]:
    """What a pack says of itself; raises ConfigError when it is none, or of another version."""
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a packed folder at {folder}: {error}") from error
    if index.get("format") != FORMAT:
        raise ConfigError(
            f"expected a pack of format {FORMAT}, got {index.get('format')}; pack it again"
        )
    return index


def load_pictures(
    folder: Path, index: dict[str, Any], device: torch.device, most: int, threads: int
) -> list[PackedPicture]:
    """Decode the packed pictures, at most `most` of them spread over all (0: every one)."""
    rows = index["pictures"]
    step = len(rows) / most if 0 < most < len(rows) else 1.0
    rows = [rows[int(k * step)] for k in range(round(len(rows) / step))]

    def read(row: dict[str, Any]) -> tuple[Pixels, list[Pixels]]:
        return decode(folder / row["file"]), [decode(folder / name) for name in row["coded"]]

    with ThreadPoolExecutor(threads) as pool:  # Pillow decodes outside the interpreter's lock
        found = list(pool.map(read, rows))
    packed = []
    for row, (rgb, coded) in zip(rows, found, strict=True):
        facts = row["name"], row["source"], row["kind"], float(row["mpp"])
        picture = Picture(*facts, [rgb], tissue_map(rgb))
        planes = [torch.from_numpy(c).to(device) for c in coded]
        packed.append(PackedPicture(picture, torch.from_numpy(rgb).to(device), planes))
    return packed


def decode(path: Path) -> Pixels:
    """A picture file as (h, w, 3)."""
    with Image.open(path) as opened:
        return np.array(opened.convert("RGB"))
