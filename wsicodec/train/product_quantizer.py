"""Product quantisation with nested prefixes: what the range coder is measured against.

Vectors are turned to their principal components, which are cut into groups of about equal rate;
each group is one byte, the nearest of 256 centroids (Jegou et al. 2011). Groups come strongest
first, so that the first bytes of a code are a coarser code.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Vectors = NDArray[np.float64]
CENTROIDS = 256
ROUNDS = 12  # of Lloyd's iteration; errors fall by less than 1 % in the later ones


@dataclass(frozen=True)
class ProductQuantizer:
    """Codebooks of a quantiser of d-dimensional vectors.

    mean: (d,)
    basis: (d, d), rows are components, strongest first.
    books: per byte (CENTROIDS, components of its group).
    """

    mean: Vectors
    basis: Vectors
    books: tuple[Vectors, ...]

    @classmethod
    def fit(cls, vectors: NDArray[np.float32], count: int, seed: int = 0) -> Self:
        """Learn a code of `count` bytes from vectors (n, d); raises ConfigError above d."""
        if not 1 <= count <= vectors.shape[1]:
            raise ConfigError(
                f"expected codes of 1 to {vectors.shape[1]} bytes for vectors of that width, got "
                f"{count}; every byte needs a component of its own"
            )
        mean = vectors.mean(0, dtype=np.float64)
        values, columns = np.linalg.eigh(np.cov((vectors - mean).T))
        basis = columns[:, ::-1].T
        turned = (vectors - mean) @ basis.T
        rng = np.random.default_rng(seed)
        ends = group_ends(values[::-1], count)
        starts = [0, *ends[:-1]]
        books = [centroids(turned[:, a:b], rng) for a, b in zip(starts, ends, strict=True)]
        return cls(mean, basis, tuple(books))

    def through(self, vectors: NDArray[np.float32], prefix: int) -> NDArray[np.float32]:
        """Vectors (n, d) as the first `prefix` bytes of their codes give them back."""
        turned = (vectors - self.mean) @ self.basis.T
        decoded = np.zeros_like(turned)
        first = 0
        for book in self.books[:prefix]:
            part = slice(first, first + book.shape[1])
            decoded[:, part] = book[nearest(turned[:, part], book)]
            first += book.shape[1]
        return np.asarray(decoded @ self.basis + self.mean, np.float32)


def group_ends(variances: Vectors, count: int) -> list[int]:
    """Where groups of components end, so that each carries about the same number of bits.

    A component of variance v costs max(0, log2(v / D) / 2) bits at distortion D; D is where the
    sum is eight bits a group (reverse water-filling, Cover & Thomas 2006, 10.3.3).
    """
    safe = np.maximum(variances, variances[0] * 1e-12)
    low, high = np.log2(safe[-1]) - 64, np.log2(safe[0])
    for _ in range(60):
        level = (low + high) / 2
        bits = np.maximum(0, np.log2(safe) - level) / 2
        low, high = (level, high) if bits.sum() > 8 * count else (low, level)
    share = np.cumsum(bits) / bits.sum() * count
    ends = [int(np.searchsorted(share, k + 1 - 1e-9)) + 1 for k in range(count)]
    for k, least in enumerate(range(1, count + 1)):  # a group holds at least one component
        ends[k] = min(max(ends[k], least, ends[k - 1] + 1 if k else 1), len(safe) - count + least)
    return ends


def centroids(points: Vectors, rng: np.random.Generator) -> Vectors:
    """CENTROIDS points that a set (n, k) is near to, by Lloyd's iteration from a random start."""
    found = points[rng.choice(len(points), CENTROIDS, replace=len(points) < CENTROIDS)].copy()
    for _ in range(ROUNDS):
        owner = nearest(points, found)
        count = np.bincount(owner, minlength=CENTROIDS)
        for axis in range(points.shape[1]):
            total = np.bincount(owner, points[:, axis], CENTROIDS)
            found[:, axis] = np.where(count > 0, total / np.maximum(count, 1), found[:, axis])
    return found


def nearest(points: Vectors, book: Vectors) -> NDArray[np.intp]:
    """Index of the nearest row of `book` (m, k) for every point (n, k)."""
    distance = np.square(book).sum(1) - 2 * points @ book.T
    return np.asarray(distance.argmin(1))
