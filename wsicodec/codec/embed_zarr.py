"""`wsicodec.embed`: the numcodecs codec `wsicodec_embed` as zarr 3 wants it, byte for byte."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec

from wsicodec.codec.offload import offload
from wsicodec.errors import BitstreamError, ConfigError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.chunk_grids import ChunkGrid
    from zarr.core.common import JSON
    from zarr.core.dtype.wrapper import TBaseDType, TBaseScalar, ZDType

NAME = "wsicodec.embed"
KEYS = ("fingerprint", "backend")


@dataclass(frozen=True)
class Embed(ArrayBytesCodec):
    """zarr 3 codec from chunks (gh, gw, d) of float32 embeddings to range-coded bytes."""

    fingerprint: str  # of the bundle whose integer tables code the vectors
    backend: str = "range"
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: "dict[str, JSON]") -> Self:
        """Read the codec's entry in an array's metadata; raises ConfigError."""
        settings = data.get("configuration", {})
        if data.get("name") != NAME or not isinstance(settings, Mapping):
            raise ConfigError(f"expected a codec named {NAME} with a configuration, got {data}")
        unknown = sorted(k for k in settings if k not in KEYS and not k.startswith("x-"))
        if unknown or not isinstance(settings.get("fingerprint"), str):
            raise ConfigError(
                f"expected a fingerprint and at most a backend in {NAME}, got {sorted(settings)}"
            )
        return cls(str(settings["fingerprint"]), str(settings.get("backend", "range")))

    def to_dict(self) -> "dict[str, JSON]":
        """The codec's entry in an array's metadata."""
        settings: dict[str, JSON] = {"fingerprint": self.fingerprint, "backend": self.backend}
        return {"name": NAME, "configuration": settings}

    def validate(
        self,
        *,
        shape: tuple[int, ...],
        dtype: "ZDType[TBaseDType, TBaseScalar]",
        chunk_grid: "ChunkGrid",  # noqa: ARG002
    ) -> None:
        """Raise ConfigError unless the array is (gy, gx, d) of float32."""
        if len(shape) != 3 or dtype.to_native_dtype() != "float32":
            raise ConfigError(
                f"expected (gy, gx, d) of float32 under {NAME}, got {shape} of {dtype}"
            )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        """Never known ahead."""
        raise NotImplementedError

    def encode_grid(self, grid: NDArray[np.float32]) -> bytes:
        """Code a chunk (gh, gw, d), cells of zeros being blank."""
        from wsicodec.codec.embed_numcodecs import EmbedCodec

        codec = EmbedCodec(self.fingerprint, self.backend)
        return bytes(codec.encode(np.ascontiguousarray(grid, np.float32)))

    def decode_grid(self, payload: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Decode a chunk of `shape` (gh, gw, d); raises BitstreamError on anything else."""
        from wsicodec.codec.embed_numcodecs import EmbedCodec

        codec = EmbedCodec(self.fingerprint, self.backend)
        grid: NDArray[np.float32] = codec.decode(payload)
        if grid.shape != tuple(shape):
            raise BitstreamError(f"expected a chunk of embeddings {shape}, got {grid.shape}")
        return grid

    async def _decode_single(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        grid = await offload(self.decode_grid, chunk_data.to_bytes(), chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(grid)

    async def _encode_single(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer":
        payload = await offload(self.encode_grid, np.asarray(chunk_data.as_numpy_array()))
        return chunk_spec.prototype.buffer.from_bytes(payload)
