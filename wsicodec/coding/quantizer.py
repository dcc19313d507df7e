"""Embeddings to integer symbols and back, exact on every machine.

    x = (s B + m) * step / 2**14                                           dequantize
    s = round(y), or 0 where |y| < dead zone; y = (X - m) B^T / 2**28      quantize
    X = round(x * 2**14 / step)

B (k, d) is an orthonormal Karhunen-Loeve basis and m (d,) the mean of the training vectors, both
integers in fixed point. Every product and every partial sum is an integer below 2**53
(`check_exact`), so float64 arithmetic is exact whatever the order, the vector width or the use of
fused multiply-add. What remains is one float64 multiplication per value and one cast, both
correctly rounded by IEEE 754. Rounding is half to even.

The dead zone belongs to the encoder alone: a wider zero costs a little error and saves more rate
(Sullivan, Efficient scalar quantization of exponential and Laplacian random variables, IEEE
Trans. Inf. Theory 42, 1996).
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
_TYPES = {"basis": "int32", "mean": "int32", "step": "float64", "dead_zone": "int32"}
MAX_WIDTH = 4096  # of an embedding; larger tables are taken for damaged ones


@dataclass(frozen=True, eq=False)
class EmbeddingTables:
    """All that coding an embedding needs; a bundle's part `codec.safetensors`.

    basis: int32 (k, d), rows are kept components in fixed point, 2**14 is one
    mean: int32 (d,), in units of step / 2**14
    step: width of the quantiser's bin, in units of the embedding
    dead_zone: absolute value below which a component is zero, 2**14 is one step; 2**13 to 2**14
    model: integer frequency tables of the symbols
    """

    basis: NDArray[np.int32]
    mean: NDArray[np.int32]
    step: float
    dead_zone: int
    model: EntropyModel

    def __post_init__(self) -> None:
        check_exact(self.basis, self.mean, self.step)
        if not 1 << FRACTION_BITS - 1 <= self.dead_zone <= 1 << FRACTION_BITS:
            raise BundleError(
                f"expected a dead zone of 2**13 to 2**14, got {self.dead_zone}; "
                "the bundle's codec tables are damaged"
            )
        if self.model.components != self.components:
            raise BundleError(
                f"expected frequency tables of {self.components} components, "
                f"got {self.model.components}; the bundle's codec tables are damaged"
            )

    @property
    def components(self) -> int:
        """Symbols per vector, k."""
        return int(self.basis.shape[0])

    @property
    def width(self) -> int:
        """Values per vector, d."""
        return int(self.basis.shape[1])

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
            "dead_zone": np.array([self.dead_zone], "<i4"),
        }
        return own | self.model.to_tensors()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Read the arrays back; raises BundleError on anything missing, unknown or impossible."""
        rest = dict(tensors)
        try:
            own = {name: rest.pop(name) for name in _TYPES}
        except KeyError as error:
            raise BundleError(f"the bundle's codec tables lack the tensor {error}") from error
        got = {name: str(tensor.dtype) for name, tensor in own.items()}
        if got != _TYPES or own["step"].shape != (1,) or own["dead_zone"].shape != (1,):
            raise BundleError(
                f"expected codec tables of types {_TYPES} with one step and one dead zone, "
                f"got {got}; the bundle is damaged"
            )
        return cls(
            basis=own["basis"],
            mean=own["mean"],
            step=float(own["step"][0]),
            dead_zone=int(own["dead_zone"][0]),
            model=EntropyModel.from_tensors(rest),
        )


def check_exact(basis: NDArray[np.int32], mean: NDArray[np.int32], step: float) -> None:
    """Prove that `dequantize` stays exact, or raise BundleError.

    For output j the largest partial sum is MAX_SYMBOL * sum_i |B_ij| + |m_j|; it must stay below
    2**53. The same is needed of `quantize`, which checks its input against `input_limit`.
    """
    if basis.ndim != 2 or mean.shape != basis.shape[1:] or not basis.size > 0:
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
    returns: (n, k)

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
    steps = projected / float(1 << 2 * FRACTION_BITS)
    zero = np.abs(steps) < tables.dead_zone / (1 << FRACTION_BITS)
    return np.where(zero, 0, np.rint(steps)).astype(np.int32)


def dequantize(symbols: NDArray[np.int32], tables: EmbeddingTables) -> NDArray[np.float32]:
    """Embeddings of symbols; `check_exact` has proven it exact for these tables.

    symbols: (n, k), at most MAX_SYMBOL in absolute value
    returns: (n, d)
    """
    sums = symbols.astype(np.float64) @ tables.basis.astype(np.float64) + tables.mean
    return (sums * (tables.step / (1 << FRACTION_BITS))).astype(np.float32)
