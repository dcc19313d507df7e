"""Planes of any size in one flat tensor on the device, so that windows of many come at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def send(values: NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device; to a card through pinned memory, so that nobody waits for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Where:
    """Squares of planes: all (n,), places in the plane's own cells; plane -1 is none."""

    plane: Tensor
    y: Tensor
    x: Tensor


class Bank:
    """Planes (h, w, c), rows after rows; filled once, then read by `gather`."""

    def __init__(self, cells: int, channels: int, dtype: torch.dtype, device: torch.device) -> None:
        """`cells` is how many values of h * w there will be in all."""
        self.flat = torch.zeros(max(cells, 1), channels, dtype=dtype, device=device)
        self.used = 0
        self.rows: list[tuple[int, int, int]] = []  # first cell, height, width
        self._table: Tensor | None = None

    def reserve(self, height: int, width: int) -> int:
        """Make room for a plane; gives its number."""
        first, self.used = self.used, self.used + height * width
        assert self.used <= len(self.flat), "the bank was made too small"
        self.rows.append((first, height, width))
        self._table = None
        return len(self.rows) - 1

    def add(self, plane: Tensor) -> int:
        """Store (h, w, c); gives its number."""
        number = self.reserve(*plane.shape[:2])
        self.plane(number).copy_(plane)
        return number

    def plane(self, number: int) -> Tensor:
        """A view (h, w, c)."""
        first, height, width = self.rows[number]
        return self.flat[first : first + height * width].view(height, width, -1)

    def gather(self, where: Where, side: int, outside: int | None = None) -> Tensor:
        """Squares (n, c, side, side); beyond a plane its edge repeats, or all is `outside`."""
        index, inside = self._index(where, side)
        found = self.flat[index].permute(0, 3, 1, 2)
        return found if outside is None else torch.where(inside[:, None], found, outside)

    def put(self, where: Where, values: Tensor) -> None:
        """Write squares (n, c, side, side); what lies beyond a plane is dropped."""
        index, inside = self._index(where, values.shape[-1])
        self.flat[index[inside]] = values.permute(0, 2, 3, 1)[inside].to(self.flat.dtype)

    def _index(self, where: Where, side: int) -> tuple[Tensor, Tensor]:
        if self._table is None:
            self._table = torch.tensor(self.rows or [(0, 1, 1)], device=self.flat.device)
        known = where.plane >= 0
        first, height, width = self._table[where.plane.clamp_min(0)].unbind(1)
        steps = torch.arange(side, device=self.flat.device)
        rows, columns = where.y[:, None] + steps, where.x[:, None] + steps
        inside_rows = (rows >= 0) & (rows < height[:, None]) & known[:, None]
        inside = inside_rows[:, :, None] & ((columns >= 0) & (columns < width[:, None]))[:, None]
        rows = torch.minimum(rows.clamp_min(0), height[:, None] - 1)
        columns = torch.minimum(columns.clamp_min(0), width[:, None] - 1)
        index = first[:, None, None] + rows[:, :, None] * width[:, None, None] + columns[:, None]
        return index, inside
