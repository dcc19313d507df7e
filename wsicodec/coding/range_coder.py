"""Symbols of a grid to range-coded bytes and back.

Cells go by anti-diagonals, rows rising within one; the components of a cell in order. Of each
symbol the residual is coded that `predictor` leaves. The escaped residuals of a diagonal follow it
in the same order: for all of them 2 * (l - 1) + n, uniform over 64, where l is the bit length of
|r| - reach (1 to 22) and n is 1 where r is negative; then, for all with l > 1, the l - 1 bits
below the leading one.

The coder is constriction's range coder with 32-bit words, stored little-endian.
`EntropyModel.coder_weights` says why its probabilities are our integers; its uniform models are
exact for powers of two.
"""

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import ESCAPE_HEAD_BITS, MAX_SYMBOL, EntropyModel
from wsicodec.coding.predictor import Predictor, diagonals, walk
from wsicodec.errors import BitstreamError

_HEADS = 1 << ESCAPE_HEAD_BITS
_MAX_LENGTH = 22  # bits of the largest excess that two symbols within MAX_SYMBOL can leave


def entropy_encode(
    symbols: NDArray[np.int32], valid: NDArray[np.bool_], model: EntropyModel
) -> bytes:
    """Range-code a grid's symbols.

    symbols: (n, k) of the valid cells in row-major order, at most MAX_SYMBOL in absolute value
    valid: (gh, gw)
    """
    encoder = stream.queue.RangeEncoder()
    family = stream.model.Categorical(perfect=False)
    for rows, residuals in walk(symbols, valid, model):
        columns = model.columns(residuals).ravel()
        encoder.encode(columns, family, model.coder_weights[rows.ravel()])
        escaped = residuals[np.abs(residuals) > model.reach]
        if len(escaped):
            _encode_escaped(encoder, escaped, model.reach)
    return bytes(encoder.get_compressed().astype("<u4").tobytes())


def entropy_decode(
    payload: bytes, valid: NDArray[np.bool_], model: EntropyModel
) -> NDArray[np.int32]:
    """Inverse of `entropy_encode`; raises BitstreamError where the bytes cannot be its work."""
    if len(payload) % 4:
        raise _broken(f"{len(payload)} bytes are not whole 32-bit words")
    decoder = stream.queue.RangeDecoder(np.frombuffer(payload, "<u4").astype(np.uint32))
    predictor = Predictor(valid, model)
    try:
        for numbers in diagonals(valid):
            rows, base = predictor.predict(numbers)
            symbols = base + _decode_residuals(decoder, rows, model)
            if np.abs(symbols).max() > MAX_SYMBOL:
                raise _broken(f"a symbol is larger than {MAX_SYMBOL}")
            predictor.learn(numbers, symbols)
    except AssertionError as error:  # what constriction raises on bytes that no encoder made
        raise _broken(str(error)) from error
    if not decoder.maybe_exhausted():
        raise _broken("some of its bytes are left over")
    return predictor.symbols()


def _decode_residuals(
    decoder: stream.queue.RangeDecoder, rows: NDArray[np.int64], model: EntropyModel
) -> NDArray[np.int64]:
    family = stream.model.Categorical(perfect=False)
    columns = decoder.decode(family, model.coder_weights[rows.ravel()])
    residuals = columns.astype(np.int64) - model.reach
    escaped = residuals > model.reach
    count = int(escaped.sum())
    if count:
        residuals[escaped] = _decode_escaped(decoder, count, model.reach)
    return np.asarray(residuals.reshape(rows.shape), np.int64)


def _encode_escaped(
    encoder: stream.queue.RangeEncoder, residuals: NDArray[np.int64], reach: int
) -> None:
    excess = (np.abs(residuals) - reach).astype(np.int32)
    # frexp's exponent of an integer below 2**53 is its bit length, exactly.
    length = np.frexp(excess.astype(np.float64))[1].astype(np.int32)
    heads = 2 * (length - 1) + (residuals < 0)
    encoder.encode(heads.astype(np.int32), stream.model.Uniform(_HEADS))
    long = length > 1
    size = np.left_shift(np.int32(1), length[long] - 1)
    encoder.encode(excess[long] - size, stream.model.Uniform(), size)


def _decode_escaped(
    decoder: stream.queue.RangeDecoder, count: int, reach: int
) -> NDArray[np.int64]:
    heads = decoder.decode(stream.model.Uniform(_HEADS), count)
    length = (heads >> 1) + 1
    if length.max() > _MAX_LENGTH:
        raise _broken(f"a residual has {length.max()} bits")
    size = np.left_shift(np.int32(1), length - 1)
    excess = size.astype(np.int64)
    long = length > 1
    excess[long] += decoder.decode(stream.model.Uniform(), size[long])
    return np.asarray(np.where(heads & 1, -reach - excess, reach + excess), np.int64)


def _broken(reason: str) -> BitstreamError:
    return BitstreamError(
        f"expected a payload coded with these tables, but {reason}; "
        "restore the chunk from a good copy"
    )
