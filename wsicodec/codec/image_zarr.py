"""`wsicodec.image`: chunks of real RGB pixels in zarr 3, see `wsicodec.coding.images`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec

from wsicodec.codec.offload import offload
from wsicodec.coding.images import ImageFormat, decode_image, encode_image
from wsicodec.errors import ConfigError

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.chunk_grids import ChunkGrid
    from zarr.core.common import JSON
    from zarr.core.dtype.wrapper import TBaseDType, TBaseScalar, ZDType

NAME = "wsicodec.image"


@dataclass(frozen=True)
class Image(ArrayBytesCodec):
    """zarr 3 codec from chunks (h, w, 3) of uint8 to AVIF, JPEG XL, or a source's JPEG tiles."""

    form: ImageFormat
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: "dict[str, JSON]") -> Self:
        """Read the codec's entry in an array's metadata; raises ConfigError."""
        settings = data.get("configuration", {})
        if data.get("name") != NAME or not isinstance(settings, Mapping):
            raise ConfigError(f"expected a codec named {NAME} with a configuration, got {data}")
        return cls(ImageFormat.from_json(cast("Mapping[str, Any]", settings)))

    def to_dict(self) -> "dict[str, JSON]":
        """The codec's entry in an array's metadata."""
        return {"name": NAME, "configuration": self.form.to_json()}

    def validate(
        self,
        *,
        shape: tuple[int, ...],
        dtype: "ZDType[TBaseDType, TBaseScalar]",
        chunk_grid: "ChunkGrid",  # noqa: ARG002
    ) -> None:
        """Raise ConfigError unless the array is (y, x, 3) of uint8."""
        if len(shape) != 3 or shape[2] != 3 or dtype.to_native_dtype() != "uint8":
            raise ConfigError(f"expected (y, x, 3) of uint8 under {NAME}, got {shape} of {dtype}")

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: "ArraySpec") -> int:
        """Never known ahead."""
        raise NotImplementedError

    def decode_chunk(self, payload: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Decode a chunk of `shape` (h, w, 3); raises BitstreamError on damage."""
        height, width = shape[:2]
        return decode_image(payload, self.form, (height, width))

    async def _decode_single(self, chunk_data: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        rgb = await offload(self.decode_chunk, chunk_data.to_bytes(), chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(rgb)

    async def _encode_single(self, chunk_data: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer":
        payload = await offload(encode_image, chunk_data.as_numpy_array(), self.form)
        return chunk_spec.prototype.buffer.from_bytes(payload)
