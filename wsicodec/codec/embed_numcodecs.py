"""The numcodecs codec `wsicodec_embed`: a grid of embedding vectors to bytes and back."""

import re
from typing import Any, Self

import numpy as np
from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ensure_ndarray_like
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

CODEC_ID = "wsicodec_embed"
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class EmbedCodec(Codec):  # type: ignore[misc]  # numcodecs has no types
    """Lossy codec of embedding grids; the bytes decode to the same floats on every machine.

    fingerprint: 64 hex digits of the bundle whose tables code the vectors
    backend: "range", or "blosc2" for readers without a range coder
    extra: keys that start with "x-" are kept and ignored; others raise ConfigError

    A vector that is all zeros stands for a blank cell and costs one bit. The bundle is looked up
    at the first encode or decode, not before.
    """

    codec_id = CODEC_ID

    def __init__(self, fingerprint: str, backend: str = "range", **extra: Any) -> None:
        if not _FINGERPRINT.fullmatch(str(fingerprint)):
            raise ConfigError(
                f"expected the bundle's fingerprint, 64 hex digits, got {fingerprint!r}; "
                "take it from the store's wsicodec attribute"
            )
        if backend not in ("range", "blosc2"):
            raise ConfigError(f"expected backend range or blosc2, got {backend!r}")
        unknown = sorted(key for key in extra if not key.startswith("x-"))
        if unknown:
            raise ConfigError(
                f"expected the keys fingerprint and backend for {CODEC_ID}, got also {unknown}; "
                "read it with a later version of wsicodec"
            )
        self._config = {"id": CODEC_ID, "fingerprint": fingerprint, "backend": backend, **extra}

    def encode(self, buf: Any) -> bytes:
        """Code a grid (gh, gw, d) of anything that converts to float32."""
        from wsicodec.coding.bitstream import encode_grid

        grid = np.asarray(ensure_ndarray_like(buf), np.float32)
        if grid.ndim != 3:
            raise ConfigError(
                f"expected embeddings of shape (gh, gw, d), got {grid.shape}; chunk the array so "
                "that a chunk holds whole vectors"
            )
        valid = np.asarray(grid.any(axis=2), np.bool_)
        return encode_grid(grid, valid, self._tables(), self._config["backend"])

    def decode(self, buf: Any, out: Any = None) -> NDArray[np.float32]:
        """The grid (gh, gw, d) as float32, blank cells all zero.

        out: float32 array of the same shape to fill and return

        Raises BitstreamError if the bytes are damaged or need another bundle.
        """
        from wsicodec.coding.bitstream import decode_grid

        if out is None:
            return decode_grid(ensure_bytes(buf), self._tables())[0]
        target = _check_out(out)
        grid, _ = decode_grid(ensure_bytes(buf), self._tables(), target.shape[:2])
        if grid.shape != target.shape:
            raise ConfigError(
                f"expected out of shape {grid.shape}, got {target.shape}; "
                "give an array of the chunk's shape"
            )
        target[...] = grid
        return target

    def get_config(self) -> dict[str, Any]:
        """JSON-safe configuration, enough to decode given the bundle."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`; numcodecs has taken the id out."""
        if "fingerprint" not in config:
            raise ConfigError(f"expected the key fingerprint for {CODEC_ID}, got {sorted(config)}")
        return cls(**{key: value for key, value in config.items() if key != "id"})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EmbedCodec) and self._config == other._config

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(f"{k}={v!r}" for k, v in self._config.items() if k != "id")
        return f"{type(self).__name__}({shown})"

    def _tables(self) -> Any:
        from wsicodec.codec.tables import embedding_tables

        return embedding_tables(self._config["fingerprint"])


def _check_out(out: Any) -> NDArray[np.float32]:
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.ndim != 3:
        got = f"{type(out).__name__} {getattr(out, 'dtype', '')}{getattr(out, 'shape', '')}"
        raise ConfigError(f"expected out to be a float32 array (gh, gw, d), got {got}")
    return out
