"""Reads the tensors of a PyTorch checkpoint without running anything that it says.

    python -I -S unpickler.py SOURCE DESTINATION.safetensors

A checkpoint is a zip with a pickle, `data.pkl`, and one raw file per storage. A pickle is a
program, so it is read apart, in a process of its own that imports the standard library alone:

* A name in the pickle gives what this file puts in its place, or a refusal. Nothing is imported.
* An audit hook ends the reading at any file, socket, process, import or piece of code.
* Memory, time and the size of what is written have limits.

What comes out is one mapping of names to tensors: the teacher's, the `state_dict`, or the root.
"""

import contextlib
import json
import math
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Self

REFUSED = 3  # exit status; the reason is the one line on standard error
WRAPPERS = ("teacher", "state_dict", "ema", "model")  # the first that is there is what is meant
MAX_PICKLE = 64 << 20  # bytes
MAX_TENSORS = 20_000
SPARE_MEMORY = 1 << 30  # bytes beyond the file's own
MAX_SECONDS = 1800

STORAGES = {
    "DoubleStorage": ("F64", 8),
    "FloatStorage": ("F32", 4),
    "HalfStorage": ("F16", 2),
    "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8),
    "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1),
}
_CELLS: dict[int, Literal["Q", "I", "H", "B"]] = {8: "Q", 4: "I", 2: "H", 1: "B"}


class Refused(Exception):  # noqa: N818, it is a verdict
    """The checkpoint is not one that can be read safely, or not a whole one."""


class Inert:
    """Stands in for objects that hold settings; takes everything and keeps nothing."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> Self:
        """Take whatever a pickle gives."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class Storage(NamedTuple):
    """A raw file in the archive; a tuple, so that no pickle can change it afterwards."""

    dtype: str
    item: int  # bytes of a value
    key: str
    length: int  # values


class Tensor(NamedTuple):
    """A view of a storage, in values; a tuple, so that it stays as it was checked."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def length(self) -> int:
        """Values."""
        return math.prod(self.shape)


def rebuild_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: object) -> Tensor:
    """What the pickle calls for a tensor; every number is checked before it is used."""
    numbers = (offset, *shape, *stride)
    if not isinstance(storage, Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise Refused("a tensor in it is not described by a storage and whole numbers")
    tensor = Tensor(storage, offset, tuple(shape), tuple(stride))
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
    # More values than the storage has would be one value repeated, and could be any amount.
    if tensor.length and (last >= storage.length or tensor.length > storage.length):
        raise Refused("a tensor in it reaches beyond its storage")
    return tensor


def rebuild_parameter(tensor: Any, *_: object) -> Any:
    """What the pickle calls for a trained tensor."""
    return tensor


INERT = {
    ("argparse", "Namespace"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"),
    ("lightning.pytorch.callbacks.model_checkpoint", "ModelCheckpoint"),
}
CALLED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): rebuild_parameter,
}


class Reader(pickle.Unpickler):
    """An unpickler that knows a handful of names and makes none of them itself."""

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; raises Refused for all but those on the lists above."""
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) in INERT:
            return Inert
        if (module, name) in CALLED:
            return CALLED[module, name]
        raise Refused(f"it asks for {f'{module}.{name}'[:80]!a}, which is not on the list")

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor names."""
        match pid:
            case ("storage", (str(dtype), int(item)), str(key), _, int(count)) if count >= 0:
                return Storage(dtype, item, key, count)
        raise Refused("a storage in it is not described as PyTorch does")


class Archive:
    """The zip that a checkpoint is."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except zipfile.BadZipFile:
            raise Refused(
                "it is truncated, or no zip-format checkpoint of PyTorch 1.6 or later; "
                "fetch it again, or save it anew with a current PyTorch"
            ) from None
        pickles = [n for n in self._zip.namelist() if n.endswith("data.pkl") and n.count("/") <= 1]
        if len(pickles) != 1:
            raise Refused("it is a zip but holds no data.pkl, so no checkpoint of PyTorch")
        self._root = pickles[0].removesuffix("data.pkl")

    def read(self, name: str, expected: int | None = None, limit: int | None = None) -> bytes:
        """The bytes of an entry, which must be stored as they are and match their checksum."""
        try:
            entry = self._zip.getinfo(self._root + name)
            if entry.compress_type != zipfile.ZIP_STORED:
                raise Refused(f"its entry {name[:40]!a} is compressed, which PyTorch never does")
            if limit is not None and entry.file_size > limit:
                raise Refused(f"its entry {name[:40]!a} has {entry.file_size} bytes, over {limit}")
            if expected is not None and entry.file_size != expected:
                raise Refused(
                    f"its storage {name[:40]!a} has {entry.file_size} bytes instead of {expected}"
                )
            return self._zip.read(entry)
        except KeyError:
            raise Refused(f"it is truncated: {name[:40]!a} is missing") from None
        except (zipfile.BadZipFile, EOFError):
            raise Refused(f"it is damaged: the checksum of {name[:40]!a} is wrong") from None

    def tree(self) -> Any:
        """What the pickle describes."""
        if "byteorder" in {n.removeprefix(self._root) for n in self._zip.namelist()}:
            order = self.read("byteorder", limit=16)
            if order != b"little":
                raise Refused("its numbers are big-endian, which is not supported")
        with contextlib.closing(_Bytes(self.read("data.pkl", limit=MAX_PICKLE))) as file:
            try:
                return Reader(file).load()
            except Refused:
                raise
            except Exception as error:  # noqa: BLE001, a hostile pickle may raise anything
                raise Refused(f"its pickle is damaged: {type(error).__name__}") from None

    def values(self, storage: Storage) -> memoryview:
        """All bytes of a storage."""
        return memoryview(self.read(f"data/{storage.key}", storage.length * storage.item))


class _Bytes:
    """The two methods that an unpickler needs, over bytes at hand."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else self._at + size
        part, self._at = self._data[self._at : end], min(end, len(self._data))
        return part

    def readline(self) -> bytes:
        end = self._data.find(b"\n", self._at) + 1
        return self.read((end or len(self._data)) - self._at)

    def close(self) -> None:
        self._data = b""


def chosen(tree: Any) -> tuple[str, dict[str, Tensor]]:
    """The wrapper's name and the tensors under it; those of the root if nothing wraps them."""
    if not isinstance(tree, dict):
        raise Refused("its root is no mapping of names to tensors")
    for wrapper in (*WRAPPERS, ""):
        inside = dict.get(tree, wrapper) if wrapper else tree
        if isinstance(inside, dict):
            found = {k: v for k, v in dict.items(inside) if isinstance(v, Tensor)}
            if found:
                break
    else:
        raise Refused("it holds no named tensors")
    if len(found) > MAX_TENSORS or not all(isinstance(k, str) and len(k) < 256 for k in found):
        raise Refused("its tensors are too many, or have no proper names")
    return wrapper, found


def write_safetensors(
    file: IO[bytes],
    entries: Mapping[str, tuple[str, tuple[int, ...], int]],
    parts: Iterable[bytes | memoryview],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file part by part: header length, JSON header, values.

    Args:
        file: open for writing.
        entries: name to dtype, shape and number of bytes, in the order of `parts`.
        parts: the values of every entry, little-endian.
        metadata: strings for the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(struct.pack("<Q", len(text)) + text)
    written = sum(file.write(part) for part in parts)
    assert written == end


def gathered(values: memoryview, tensor: Tensor) -> Iterator[memoryview | bytes]:
    """The values of a tensor in row-major order, copied only where they lie otherwise."""
    item, expected = tensor.storage.item, 1
    for side, step in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if side != 1 and step != expected:
            break
        expected *= side
    else:
        yield values[tensor.offset * item : (tensor.offset + tensor.length) * item]
        return
    cells = values.cast(_CELLS[item])
    yield from _rows(cells, tensor.offset, tensor.shape, tensor.stride)


def _rows(
    cells: memoryview, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> Iterator[bytes]:
    if len(shape) > 1:
        for index in range(shape[0]):
            yield from _rows(cells, offset + index * stride[0], shape[1:], stride[1:])
    elif stride[0] == 0:
        yield bytes(cells[offset : offset + 1]) * shape[0]
    elif shape[0]:
        last = offset + (shape[0] - 1) * stride[0]
        yield cells[offset : last + 1 : stride[0]].tobytes()


def all_values(archive: Archive, tensors: Iterable[Tensor]) -> Iterator[memoryview | bytes]:
    """The values of tensors that come sorted by storage, each storage read once."""
    at_hand: Storage | None = None
    values = memoryview(b"")
    for tensor in tensors:
        if tensor.storage != at_hand:
            at_hand, values = tensor.storage, archive.values(tensor.storage)
        yield from gathered(values, tensor)


def convert(source: IO[bytes], destination: IO[bytes]) -> None:
    """Write the tensors of a checkpoint as safetensors; raises Refused."""
    archive = Archive(source)
    forbid_everything()
    wrapper, found = chosen(archive.tree())
    order = dict(sorted(found.items(), key=lambda item: (item[1].storage.key, item[1].offset)))
    entries = {k: (t.storage.dtype, t.shape, t.length * t.storage.item) for k, t in order.items()}
    parts = all_values(archive, order.values())
    write_safetensors(destination, entries, parts, {"wrapper": wrapper})
    destination.flush()


def forbid_everything() -> None:
    """From here on, any file, socket, process, import or code object ends the process's work."""

    def refuse(event: str, _: object) -> None:
        raise Refused(f"reading it led to {event[:40]!a}, which is not allowed")

    sys.addaudithook(refuse)


def limit_resources(size: int) -> None:
    """Bound memory, time and output for a checkpoint of `size` bytes."""
    import resource

    for kind, most in (
        (resource.RLIMIT_AS, SPARE_MEMORY + size),
        (resource.RLIMIT_CPU, MAX_SECONDS),
        (resource.RLIMIT_FSIZE, SPARE_MEMORY + size),
        (resource.RLIMIT_CORE, 0),
    ):
        # macOS does not take every limit; what is refused does not depend on them.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))


def main(source: str, destination: str) -> int:
    """Convert one file; gives the exit status."""
    try:
        limit_resources(Path(source).stat().st_size)
        with Path(source).open("rb") as read, Path(destination).open("wb") as write:
            convert(read, write)
    except Exception as reason:  # noqa: BLE001, whatever it is, it ends here in one line
        known = isinstance(reason, Refused | OSError)
        text = " ".join(str(reason).split()) if known else f"it is damaged: {type(reason).__name__}"
        os.write(2, text.encode("ascii", "backslashreplace")[:400] + b"\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    # No clean-up code of the interpreter runs after a pickle was in its memory.
    os._exit(main(*sys.argv[1:]))
