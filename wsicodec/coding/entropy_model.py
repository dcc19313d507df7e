"""Integer frequency tables of symbols, and the ideal code length under them.

One family of tables serves all components. Which table codes a symbol, and around which value,
follows from what was decoded before it, in integers (`predictor`): the class of its expected
magnitude and the phase of its expected value. So a slide unlike the training tissue costs less
than per-component tables would, and few vectors suffice to fit them.

A table holds `2 * reach + 2` frequencies that sum to 2**16: of the residuals -reach .. reach, then
of the escape that stands for everything beyond.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError

PRECISION = 16  # bits of a frequency; a table sums to 2**16
CODER_PRECISION = 24  # bits of a probability inside constriction's range coder
FINE_BITS = 8  # fraction bits of expected values and magnitudes
CLASSES = 28  # of expected magnitude, half octaves
PHASES = 4  # of an expected value between two symbols
MAX_REACH = 255  # largest residual with a frequency of its own
MAX_SYMBOL = 1 << 20  # absolute value that no symbol may exceed
ESCAPE_HEAD_BITS = 6  # bit length and sign of what lies beyond the reach
_NAMES = ("frequencies", "neighbour_weights", "prior_magnitudes")


@dataclass(frozen=True, eq=False)
class EntropyModel:
    """What the entropy coder knows before the first symbol.

    prior_magnitudes: int32 (k,), expected absolute residual in 1/256 symbols, 1 to 2**28
    neighbour_weights: int32 (k,), weight of the neighbours' mean against the slide's, 0 to 256
    frequencies: int32 (CLASSES, PHASES, 2 * reach + 2), each at least 1
    """

    prior_magnitudes: NDArray[np.int32]
    neighbour_weights: NDArray[np.int32]
    frequencies: NDArray[np.int32]

    def __post_init__(self) -> None:
        _check_shapes(self.prior_magnitudes, self.neighbour_weights, self.frequencies)
        _check_range("prior_magnitudes", self.prior_magnitudes, 1, 1 << 28)
        _check_range("neighbour_weights", self.neighbour_weights, 0, 1 << FINE_BITS)
        _check_range("frequencies", self.frequencies, 1, 1 << PRECISION)
        sums = self.frequencies.astype(np.int64).sum(axis=2)
        _check_range("sums of frequencies", sums, 1 << PRECISION, 1 << PRECISION)

    @property
    def components(self) -> int:
        """Symbols per vector, k."""
        return int(self.prior_magnitudes.shape[0])

    @property
    def reach(self) -> int:
        """Largest absolute residual that has a frequency of its own."""
        return int(self.frequencies.shape[2] - 2) // 2

    @cached_property
    def coder_weights(self) -> NDArray[np.float64]:
        """The tables as constriction wants them, (CLASSES * PHASES, symbols).

        constriction turns floats w into 24-bit cumulatives floor(W_j * (2**24 - n) / sum(w)) + j
        with W_j = w_0 + .. + w_(j-1). With w = 256 f - 1 all sums are integers below 2**53, the
        whole sum is 2**24 - n, the factor exactly 1 and the cumulative exactly 256 F_j: our
        integers, on every machine. Hence float64 and `perfect=False`, the plain rule.
        """
        scaled = self.frequencies * float(1 << CODER_PRECISION - PRECISION) - 1.0
        return np.ascontiguousarray(scaled.reshape(CLASSES * PHASES, -1), np.float64)

    def columns(self, residuals: NDArray[np.int64]) -> NDArray[np.int32]:
        """Column of every residual in a table; the last for escaped ones."""
        inside = np.abs(residuals) <= self.reach
        return np.where(inside, residuals + self.reach, 2 * self.reach + 1).astype(np.int32)

    def bits(self, rows: NDArray[np.int64], residuals: NDArray[np.int64]) -> float:
        """Ideal code length in bits of residuals (n, k) coded with the tables `rows` (n, k)."""
        table = self.frequencies.reshape(CLASSES * PHASES, -1)
        coded = PRECISION * residuals.size - np.log2(table[rows, self.columns(residuals)]).sum()
        excess = np.abs(residuals[np.abs(residuals) > self.reach]) - self.reach
        lengths = np.frexp(excess.astype(np.float64))[1]
        return float(coded + (ESCAPE_HEAD_BITS + lengths - 1).sum())

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Little-endian arrays by name; `from_tensors` is the inverse."""
        return {name: getattr(self, name).astype("<i4") for name in _NAMES}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Read the arrays back; raises BundleError on anything missing, unknown or impossible."""
        if set(tensors) != set(_NAMES) or any(t.dtype != np.int32 for t in tensors.values()):
            got = {name: str(tensor.dtype) for name, tensor in tensors.items()}
            raise BundleError(
                f"expected the int32 tensors {sorted(_NAMES)} in the codec tables, got {got}; "
                "the bundle is damaged or from a later version"
            )
        return cls(**tensors)


def _check_shapes(
    priors: NDArray[np.int32], weights: NDArray[np.int32], frequencies: NDArray[np.int32]
) -> None:
    shape = frequencies.shape
    fits = len(shape) == 3 and shape[:2] == (CLASSES, PHASES)
    fits = fits and shape[2] % 2 == 0 and 4 <= shape[2] <= 2 * MAX_REACH + 2
    if not fits or priors.ndim != 1 or priors.size == 0 or weights.shape != priors.shape:
        raise BundleError(
            f"expected frequencies ({CLASSES}, {PHASES}, 2 * reach + 2), priors and weights (k,) "
            f"in the codec tables, got {shape}, {priors.shape} and {weights.shape}; "
            "the bundle is damaged"
        )


def _check_range(name: str, values: NDArray[Any], low: int, high: int) -> None:
    if values.min() < low or values.max() > high:
        raise BundleError(
            f"expected {name} of {low} to {high} in the codec tables, "
            f"got {values.min()}..{values.max()}; the bundle is damaged"
        )
