"""`wsicodec.pixels`: the only codec of a level's array, which has no chunks of its own.

zarr hands a codec that can decode parts of a chunk the store and the key before anything is read,
also for chunks that do not exist. From there the codec finds its slide's root and draws.

Where the caller's buffers are not in host memory, as after `zarr.config.enable_gpu()`, pixels that
a card draws are handed over where they are, as a tensor with `__cuda_array_interface__`.
"""

import re
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
from zarr.abc.store import ByteGetter
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer, cpu
from zarr.core.common import JSON
from zarr.core.indexing import SelectorTuple
from zarr.storage import StorePath

from wsicodec.codec.locate import draw_options, slide_root
from wsicodec.codec.reader import as_shown, read_region
from wsicodec.errors import ConfigError, StoreError
from wsicodec.geometry import LEVELS, Region

NAME = "wsicodec.pixels"
_KEYS = {"format", "level", "layout", "slide", "root"}
_CHUNK = re.compile(r"^(?P<array>.*?)/?c/(?P<index>\d+(?:/\d+)*)$")
_DRAWN = (
    "the pixels of this level are drawn from the slide's embeddings, not stored: they cannot be "
    "written (wsicodec.encode makes a slide from pixels), and wsicodec.pixels must be the only "
    "codec of its array (no compressors, filters or shards beside it)"
)


@dataclass(frozen=True)
class Pixels(ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Draws the pixels of one level of one slide."""

    level: int  # of the store
    slide: str  # 32 hex digits: the slide that must stand at the root
    layout: str = "yxc"  # or "cyx", for OME readers
    root: str = ".."  # from the array to the slide's root
    is_fixed_size = False

    def __post_init__(self) -> None:
        if not 0 <= self.level < LEVELS:
            raise ConfigError(f"{NAME}: expected a level from 0 to {LEVELS - 1}, got {self.level}")
        if self.layout not in ("yxc", "cyx"):
            raise ConfigError(f"{NAME}: expected layout yxc or cyx, got {self.layout!r}")
        if self.root not in ("..", "../.."):
            raise ConfigError(f"{NAME}: expected root '..' or '../..', got {self.root!r}")
        if not re.fullmatch(r"[0-9a-f]{32}", self.slide):
            raise ConfigError(f"{NAME}: expected slide as 32 hex digits, got {self.slide!r}")

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        """From a metadata document; unknown keys and later formats are refused."""
        settings = data.get("configuration")
        if data.get("name") != NAME or not isinstance(settings, dict):
            raise ConfigError(f"expected a codec named {NAME} with a configuration, got {data}")
        unknown = {k for k in settings if k not in _KEYS and not k.startswith("x-")}
        if unknown or settings.get("format") != 1:
            raise ConfigError(
                f"{NAME}: expected format 1 and the keys {sorted(_KEYS)}, got {settings}; "
                "read the slide with a later version of wsicodec"
            )
        values: dict[str, Any] = {k: v for k, v in settings.items() if k in _KEYS - {"format"}}
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"{NAME}: malformed configuration {settings}: {error}") from error

    def to_dict(self) -> dict[str, JSON]:
        """The metadata document; `from_dict` is its inverse."""
        settings: dict[str, JSON] = {
            "format": 1,
            "level": self.level,
            "layout": self.layout,
            "slide": self.slide,
            "root": self.root,
        }
        return {"name": NAME, "configuration": settings}

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:  # noqa: ARG002
        """Refuse arrays that are not a level: uint8, three axes, three colours."""
        if len(shape) != 3 or shape[2 if self.layout == "yxc" else 0] != 3:
            raise ConfigError(f"{NAME}: expected three axes {self.layout}, got shape {shape}")
        if np.dtype(dtype.to_native_dtype()) != np.uint8:
            raise ConfigError(f"{NAME}: expected uint8, got {dtype}")

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: SelectorTuple, chunk_spec: ArraySpec
    ) -> NDBuffer | None:
        if not isinstance(byte_getter, StorePath):
            raise StoreError(_DRAWN)
        match = _CHUNK.match(byte_getter.path)
        if match is None:
            raise StoreError(f"expected a chunk key ending in c/…, got {byte_getter.path!r}")
        index = [int(n) for n in match["index"].split("/")]
        root = slide_root(byte_getter.store, match["array"], self.root)
        chunk_origin = [i * n for i, n in zip(index, chunk_spec.shape, strict=True)]
        buffers = chunk_spec.prototype.nd_buffer
        away = not issubclass(buffers, cpu.NDBuffer)
        pixels = await self._select(root, chunk_origin, selection, chunk_spec.shape, keep=away)
        # Which takes whatever its library can, without a copy if it lies where the buffer is.
        return buffers.from_numpy_array(pixels)

    async def _select(
        self,
        root: StorePath,
        origin: list[int],
        selection: SelectorTuple,
        chunk_shape: tuple[int, ...],
        *,
        keep: bool,
    ) -> Any:
        """The selected values of one chunk; draws no more than the box around them.

        With `keep`, slices and whole numbers are taken on the device; lists, on the host.
        """
        parts = selection if isinstance(selection, tuple) else (selection,)
        parts = (*parts, *[slice(None)] * (3 - len(parts)))
        box = [_span(part, size) for part, size in zip(parts, chunk_shape, strict=True)]
        y, x = (0, 1) if self.layout == "yxc" else (1, 2)
        region = Region(
            origin[y] + box[y][0],
            origin[x] + box[x][0],
            origin[y] + box[y][1],
            origin[x] + box[x][1],
        )
        keep = keep and all(isinstance(part, int | slice) for part in parts)
        options = draw_options(root.store)
        read = await read_region(root, self.slide, self.level, region, options, keep=keep)
        drawn = as_shown(read, self.layout)
        starts = [0, 0, 0]
        starts[y], starts[x] = box[y][0], box[x][0]
        shifted = tuple(_shift(part, start) for part, start in zip(parts, starts, strict=True))
        chosen = drawn[shifted]
        return np.ascontiguousarray(chosen) if isinstance(chosen, np.ndarray) else chosen

    async def decode(self, chunks_and_specs: Any) -> Any:  # noqa: ARG002
        """Refused: zarr only comes here to write, or where other codecs stand beside this one."""
        raise TypeError(_DRAWN)

    async def encode(self, chunks_and_specs: Any) -> Any:  # noqa: ARG002
        """Refused: `wsicodec.encode` is the only writer."""
        raise TypeError(_DRAWN)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Unknown: there are no encoded chunks."""
        raise NotImplementedError

    async def _decode_single(self, *_: Any) -> NDBuffer:
        raise TypeError(_DRAWN)

    async def _encode_single(self, *_: Any) -> Buffer | None:
        raise TypeError(_DRAWN)


def _span(part: Any, size: int) -> tuple[int, int]:
    """First and one past the last index that one axis' selection touches."""
    if isinstance(part, slice):
        steps = range(*part.indices(size))
        return (min(steps), max(steps) + 1) if steps else (0, 0)
    indices = np.asarray(part)
    if indices.dtype == bool:
        indices = np.flatnonzero(indices)
    return (int(indices.min()), int(indices.max()) + 1) if indices.size else (0, 0)


def _shift(part: Any, start: int) -> Any:
    if isinstance(part, slice):
        first, stop, step = part.start or 0, part.stop, part.step
        return slice(first - start, None if stop is None else stop - start, step)
    if np.asarray(part).dtype == bool:
        return np.flatnonzero(part) - start
    return part - start
