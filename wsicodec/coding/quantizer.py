"""Embeddings to integer symbols and back, exact on every machine.

    x = (s B + m) * step / 2**14          dequantize
    s = round((X - m) B^T / 2**28)        quantize, with X = round(x * 2**14 / step)

B (k, d) is an orthonormal Karhunen-Loeve basis and m (d,) the mean of the training vectors, both
integers in fixed point. Every product and every partial sum is an integer below 2**53
(`check_exact`), so float64 arithmetic is exact whatever the order, the vector width or the use of
fused multiply-add. What remains is one float64 multiplication per value and one cast, both
correctly rounded by IEEE 754.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import MAX_SYMBOL, EntropyModel
from wsicodec.errors import BundleError, ConfigError

FRACTION_BITS = 14  # of the basis, and of the mean in units of the step
EXACT_LIMIT = 1 << 53  # integers below it are exact in float64
MAX_WIDTH = 4096  # of an embedding; larger tables are taken for damaged ones


@dataclass(frozen=True, eq=False)
class EmbeddingTables:
    """All that coding an embedding needs; a bundle's part `codec.safetensors`.

    basis: int32 (k, d), rows are kept components in fixed point, 2**14 is one
    mean: int32 (d,), in units of step / 2**14
    step: width of the quantiser's bin, in units of the embedding
    model: integer frequency tables of the symbols
    """

    basis: NDArray[np.int32]
    mean: NDArray[np.int32]
    step: float
    model: EntropyModel

    def __post_init__(self) -> None:
        check_exact(self.basis, self.mean, self.step)
        if self.model.components != self.components:
            raise BundleError(
                f"expected frequency tables of {self.components} components, "
                f"got {self.model.components}; the bundle's codec tables are damaged"
            )

    @property
    def components(self) -> int:
        """Symbols per vector, k."""
        return self.basis.shape[0]

    @property
    def width(self) -> int:
        """Values per vector, d."""
        return self.basis.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """64 hex digits, SHA-256 of all tensors with their names, types and shapes."""
        digest = hashlib.sha256(b"wsicodec embedding tables 1")
        for name, tensor in sorted(self.to_tensors().items()):
            digest.update(f"{name} {tensor.dtype.str} {tensor.shape} ".encode())
            digest.update(np.ascontiguousarray(tensor).tobytes())
        return digest.hexdigest()

    def to_tensors(self) -> dict[str, NDArray[Any]]:
        """Little-endian arrays by name, ready for safetensors; `from_tensors` is the inverse."""
        own = {
            "basis": self.basis.astype("<i4"),
            "mean": self.mean.astype("<i4"),
            "step": np.array([self.step], "<f8"),
        }
        return own | self.model.to_tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Read the arrays back; raises BundleError on anything missing, unknown or impossible."""
        rest = dict(tensors)
        try:
            basis, mean, step = (rest.pop(name) for name in ("basis", "mean", "step"))
        except KeyError as error:
            raise BundleError(f"the bundle's codec tables lack the tensor {error}") from error
        if basis.dtype != np.int32 or mean.dtype != np.int32 or step.dtype != np.float64:
            raise BundleError(
                "expected codec tables with basis and mean of int32 and step of float64, got "
                f"{basis.dtype}, {mean.dtype} and {step.dtype}; the bundle is damaged"
            )
        if step.shape != (1,):
            raise BundleError(f"expected one step in the codec tables, got shape {step.shape}")
        return cls(basis, mean, float(step[0]), EntropyModel.from_tensors(rest))


def check_exact(basis: NDArray[np.int32], mean: NDArray[np.int32], step: float) -> None:
    """Prove that `dequantize` stays exact, or raise BundleError.

    For output j the largest partial sum is MAX_SYMBOL * sum_i |B_ij| + |m_j|; it must stay below
    2**53. The same is needed of `quantize`, which checks its input against `input_limit`.
    """
    if basis.ndim != 2 or mean.shape != basis.shape[1:] or not 0 < basis.size:
        raise BundleError(
            f"expected a basis (k, d) and a mean (d,), got {basis.shape} and {mean.shape}; "
            "the bundle's codec tables are damaged"
        )
    k, d = basis.shape
    if not k <= d <= MAX_WIDTH or not np.isfinite(step) or not step > 0:
        raise BundleError(
            f"expected k <= d <= {MAX_WIDTH} and a positive step, got k={k}, d={d}, step={step}; "
            "the bundle's codec tables are damaged"
        )
    columns = np.abs(basis.astype(np.int64)).sum(axis=0)
    worst = int((columns * MAX_SYMBOL + np.abs(mean.astype(np.int64))).max())
    if worst >= EXACT_LIMIT:
        raise BundleError(
            f"expected sums below 2**53 in the codec tables, got up to {worst}; "
            "the bundle's codec tables are damaged"
        )


def input_limit(tables: EmbeddingTables) -> int:
    """Largest absolute fixed-point input X for which `quantize` is exact and within limits."""
    rows = int(np.abs(tables.basis.astype(np.int64)).sum(axis=1).max())
    centred = min((EXACT_LIMIT - 1) // rows, (MAX_SYMBOL << 2 * FRACTION_BITS) // rows)
    return max(0, centred - int(np.abs(tables.mean.astype(np.int64)).max()))


def quantize(embeddings: NDArray[np.floating[Any]], tables: EmbeddingTables) -> NDArray[np.int32]:
    """Integer symbols of embeddings, the same on every machine and in every batch.

    embeddings: (n, d), finite
    returns: (n, k), rounded half to even

    Raises ConfigError if a value is not finite or too large for the step.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] != tables.width:
        raise ConfigError(
            f"expected embeddings of shape (n, {tables.width}), got {embeddings.shape}; "
            "use the bundle whose embedder made them"
        )
    fixed = np.rint(embeddings.astype(np.float64) * ((1 << FRACTION_BITS) / tables.step))
    limit = input_limit(tables)
    if not bool((np.abs(fixed) <= limit).all()):
        largest = limit * tables.step / (1 << FRACTION_BITS)
        raise ConfigError(
            f"expected finite embeddings within +-{largest:.6g}, got a value outside; "
            "use the bundle whose embedder made them"
        )
    projected = (fixed - tables.mean) @ tables.basis.T.astype(np.float64)
    return np.rint(projected / float(1 << 2 * FRACTION_BITS)).astype(np.int32)


def dequantize(symbols: NDArray[np.int32], tables: EmbeddingTables) -> NDArray[np.float32]:
    """Embeddings of symbols; `check_exact` has proven it exact for these tables.

    symbols: (n, k), at most MAX_SYMBOL in absolute value
    returns: (n, d)
    """
    sums = symbols.astype(np.float64) @ tables.basis.astype(np.float64) + tables.mean
    return (sums * (tables.step / (1 << FRACTION_BITS))).astype(np.float32)
