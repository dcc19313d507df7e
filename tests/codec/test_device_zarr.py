"""Pixels that stay on a device where the caller's buffers are there.

cupy does not load without a card, so a stand-in for its buffers holds tensors and refuses to be
read by NumPy: pixels that went through host memory on their way would be seen.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import zarr
from zarr.core.buffer import core, cpu
from zarr.registry import register_buffer, register_ndbuffer

torch = pytest.importorskip("torch")

from wsicodec.codec import compute, state  # noqa: E402
from wsicodec.codec.draw_device import DeviceDrawing  # noqa: E402

pytestmark = pytest.mark.torch


class FarArray:
    """An array of a device: what zarr asks of cupy's, and never a NumPy array unasked."""

    def __init__(self, tensor: Any) -> None:
        self.tensor = tensor
        self.shape = tuple(tensor.shape)
        self.ndim = tensor.ndim
        self.dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, key: Any) -> "FarArray":
        return FarArray(self.tensor[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.tensor[key] = value.tensor if isinstance(value, FarArray) else value


class FarNDBuffer(core.NDBuffer):
    """As `zarr.buffer.gpu.NDBuffer`; notes where what it is made from lies."""

    made_from: ClassVar[list[type]] = []

    def __init__(self, array: Any) -> None:
        self._data = array

    @classmethod
    def create(
        cls, *, shape: Any, dtype: Any, order: Any = "C", fill_value: Any | None = None
    ) -> Self:
        kind = getattr(torch, np.dtype(dtype).name)
        return cls(FarArray(torch.full(tuple(shape), int(fill_value or 0), dtype=kind)))

    @classmethod
    def empty(cls, shape: Any, dtype: Any, order: Any = "C") -> Self:
        return cls.create(shape=shape, dtype=dtype)

    @classmethod
    def from_numpy_array(cls, array_like: Any) -> Self:
        cls.made_from.append(type(array_like))
        return cls(FarArray(torch.as_tensor(array_like)))

    def as_numpy_array(self) -> Any:
        held: Any = self._data
        return held.tensor.numpy()

    def __getitem__(self, key: Any) -> Self:
        return self.__class__(self._data[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._data[key] = value._data if isinstance(value, core.NDBuffer) else value


class FarBuffer(cpu.Buffer):
    """Notes what was brought into it."""

    brought: ClassVar[list[bytes]] = []

    @classmethod
    def from_bytes(cls, bytes_like: Any) -> Self:
        cls.brought.append(bytes(bytes_like[:1]))
        return super().from_bytes(bytes_like)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Buffers on a device that draws, after `zarr.config.enable_gpu`'s manner."""
    register_buffer(FarBuffer, qualname="tests.FarBuffer")
    register_ndbuffer(FarNDBuffer, qualname="tests.FarNDBuffer")
    monkeypatch.setattr(state, "_state", state.State())
    monkeypatch.setattr(compute, "find_card", lambda: "cpu")
    monkeypatch.setattr(compute, "choose_backend", lambda _: "torch")
    monkeypatch.setattr(
        compute, "load_engine", lambda bundle, steps, card: DeviceDrawing(bundle, steps, card, 2)
    )
    FarNDBuffer.made_from.clear()
    FarBuffer.brought.clear()
    names = {"buffer": "tests.FarBuffer", "ndbuffer": "tests.FarNDBuffer"}
    with zarr.config.set(names):
        yield


def near(store: Path, path: str, selection: Any) -> np.ndarray:
    with zarr.config.set({"buffer": "zarr.buffer.cpu.Buffer"} | {
        "ndbuffer": "zarr.buffer.cpu.NDBuffer"
    }):  # fmt: skip
        return np.asarray(zarr.open_array(store / path, mode="r")[selection])


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("path", ["0", "cyx/0"])
def test_what_a_device_draws_stays_there(standard_store: Path, path: str) -> None:
    """Across a tile's border, and off both layouts' origins."""
    box = (slice(200, 300), slice(40, 120))
    selection = (*box, slice(None)) if path == "0" else (slice(None), *box)
    array = zarr.open_array(standard_store / path, mode="r")
    got: Any = array[selection]
    assert FarBuffer.brought == [], "what the slide stores was brought there undecoded"
    assert isinstance(got, FarArray)
    assert FarNDBuffer.made_from
    assert all(issubclass(kind, torch.Tensor) for kind in FarNDBuffer.made_from)
    wanted = near(standard_store, path, selection)
    np.testing.assert_array_equal(got.tensor.numpy(), wanted)
    drawn = sum(state.state().drawn.values())
    assert isinstance(array[selection], FarArray)
    assert sum(state.state().drawn.values()) == drawn, "a tile that stayed was drawn again"


@pytest.mark.usefixtures("far")
def test_reads_under_way_at_once_share_batches(
    standard_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four arrays of one tile each, asked for together; a batch of two takes two of them."""
    sizes: list[int] = []
    begin = DeviceDrawing.start

    def start(self: DeviceDrawing, place: int, orders: Any, *, download: bool) -> None:
        sizes.append(len(orders))
        begin(self, place, orders, download=download)

    monkeypatch.setattr(DeviceDrawing, "start", start)
    array = zarr.open_array(standard_store / "0", mode="r")
    corners = [(y, x) for y in (256, 512) for x in (256, 512)]
    with ThreadPoolExecutor(4) as pool:
        tiles = list(pool.map(lambda c: array[c[0] : c[0] + 9, c[1] : c[1] + 9], corners))
    assert max(sizes) == 2
    for (y, x), tile in zip(corners, tiles, strict=True):
        far: Any = tile
        wanted = near(standard_store, "0", (slice(y, y + 9), slice(x, x + 9)))
        np.testing.assert_array_equal(far.tensor.numpy(), wanted)


@pytest.mark.usefixtures("far")
def test_lists_and_stored_pictures_are_brought_there(standard_store: Path) -> None:
    array: Any = zarr.open_array(standard_store / "0", mode="r")
    got = array.oindex[[3, 90], 40:60, [0, 2]]
    wanted = near(standard_store, "0", (slice(None, 100), slice(40, 60), slice(None)))
    np.testing.assert_array_equal(got.tensor.numpy(), wanted[[3, 90]][:, :, [0, 2]])
    kept = zarr.open_array(standard_store / "2", mode="r")
    whole: Any = kept[:]
    np.testing.assert_array_equal(whole.tensor.numpy(), near(standard_store, "2", slice(None)))
    assert set(FarNDBuffer.made_from) == {np.ndarray}
