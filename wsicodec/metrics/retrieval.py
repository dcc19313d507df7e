"""What a decoded tile keeps of its meaning: embedded again, is it still found?"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Vectors = NDArray[np.float64]
Embed = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


def cosines(true: NDArray[np.floating], drawn: NDArray[np.floating]) -> Vectors:
    """Cosines (n,) between each true vector and the one drawn in its place."""
    a, b = _units(true, drawn)
    return np.asarray((a * b).sum(1))


def retrieval_at_1(true: NDArray[np.floating], drawn: NDArray[np.floating], among: int) -> float:
    """Probability that a drawn tile is nearest, by cosine, to its own original among `among` tiles.

    The mean over all tiles and over every choice of `among` - 1 others, in closed form: a tile
    that `worse` of n - 1 others surpass is found with probability C(n-1-worse, k-1) / C(n-1, k-1).

    Args:
        true: vectors (n, d).
        drawn: vectors (n, d), row by row of the same tiles.
        among: tiles to choose from, the right one included; at most n. Ties count as lost.

    Raises:
        ConfigError: arrays of other shapes, or `among` outside 2..n.
    """
    a, b = _units(true, drawn)
    if not 2 <= among <= len(a):
        raise ConfigError(f"expected to choose among 2 to {len(a)} tiles, got {among}")
    alike = b @ a.T
    beaten_by = (alike >= np.diag(alike)[:, None]).sum(1) - 1
    others = len(a) - 1
    # C(m, j) / C(o, j) = prod over i < j of (m - i) / (o - i), which is 0 once m < j.
    picks = np.arange(among - 1)
    odds = np.clip(others - beaten_by[:, None] - picks, 0, None) / (others - picks)
    return float(odds.prod(1).mean())


def _units(true: NDArray[np.floating], drawn: NDArray[np.floating]) -> tuple[Vectors, Vectors]:
    if true.ndim != 2 or true.shape != drawn.shape:
        raise ConfigError(
            f"expected two arrays (n, d) of one shape, got {true.shape} and {drawn.shape}"
        )
    units = []
    for rows in (true, drawn):
        wide = rows.astype(np.float64)
        lengths = np.linalg.norm(wide, axis=1, keepdims=True)
        if not lengths.all():
            raise ConfigError("expected vectors other than zero, got a row of zeros")
        units.append(wide / lengths)
    return units[0], units[1]
