"""Where stores live: folders, zip files, zarr store objects and fsspec URLs, both ways."""

import contextlib
import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

from wsicodec.codec.locate import DrawingStore
from wsicodec.config import DrawOptions, StoreInfo
from wsicodec.errors import StoreError, StoreExistsError
from wsicodec.store.job import Job, clear_leftovers
from wsicodec.store.metadata import MANIFEST, ROOT

Target = str | os.PathLike[str] | Store
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: same slide, same file


def check_destination(target: Target, *, overwrite: bool) -> None:
    """Raise StoreExistsError if something stands at `target` that may not be replaced."""
    Destination(target).refuse_existing(overwrite)


class Destination:
    """A place where a store is to appear.

    target: a folder; a path that ends in .zip; a zarr store object; or an fsspec URL.
    """

    def __init__(self, target: Target) -> None:
        self._store = _remote(target)
        self._path = Path() if self._store is not None else Path(_local(target)).absolute()
        self._name = str(target)

    def __str__(self) -> str:
        return self._name if self._store is not None else str(self._path)

    @property
    def _zip(self) -> bool:
        return self._path.suffix.lower() == ".zip"

    def refuse_existing(self, overwrite: bool) -> None:
        """Raise StoreExistsError if something stands there that may not be replaced."""
        if self._store is None:
            clear_leftovers(self._path)
        if self._is_free():
            return
        if not overwrite:
            raise StoreExistsError(_standing(self))
        if not self._is_ours():
            raise StoreExistsError(
                f"expected a wsicodec store to replace, but {self} is something else; "
                "remove it yourself, or choose another name"
            )

    def _is_free(self) -> bool:
        if self._store is not None:
            return sync(self._store.is_empty(""))
        return not os.path.lexists(self._path)

    def _is_ours(self) -> bool:
        """Whether a store of ours stands there, or a part of one whose copying was cut off."""
        if self._store is None and self._path.is_symlink():
            return False
        try:
            with reading(self._store or self._path) as store:
                if read_object(store, ROOT) is None:
                    return "objects" in read_json(store, MANIFEST)
                return "wsicodec" in read_json(store, ROOT).get("attributes", {})
        except StoreError:
            return False

    @contextlib.contextmanager
    def working_name(self) -> Iterator[Path]:
        """The local name beside which the store is made; temporary for what is not local."""
        if self._store is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            yield self._path
            return
        with tempfile.TemporaryDirectory(prefix="wsicodec-") as folder:
            yield Path(folder) / "slide.zarr"

    def publish(self, job: Job, overwrite: bool) -> int | None:
        """Give a finished store its name; returns its bytes there where packing changed them."""
        if self._store is not None:
            if overwrite:
                sync(self._store.clear())
            copy_into(job.store, self._store)
            return None
        made, size = job.store, None
        if self._zip:
            made = job.root / "store.zip"
            size = write_zip(job.store, made)
        if overwrite and os.path.lexists(self._path):
            self._path.replace(job.replaced)
        elif os.path.lexists(self._path):
            raise StoreExistsError(_standing(self))
        made.replace(self._path)
        _sync_folder(self._path.parent)
        return size


def open_store(source: Target, options: DrawOptions | None = None) -> zarr.Group:
    """Open a slide's root group for reading.

    source: as for `Destination`.
    options: how its pixels are drawn; None takes the defaults.

    Raises StoreError if it is not a store of this format.
    """
    store = find_store(source)
    read_info(store)
    drawing = store if options is None else DrawingStore(store, options)
    return zarr.open_group(drawing, mode="r")


@contextlib.contextmanager
def reading(source: Target) -> Iterator[Store]:
    """A store for reading only, wherever it lives, closed afterwards if it was opened here."""
    store = find_store(source)
    try:
        yield store
    finally:
        if store is not source:
            store.close()


def find_store(source: Target) -> Store:
    """The zarr store at a place, for reading only; raises StoreError if nothing is there."""
    store = _remote(source)
    if store is not None:
        return store if store.read_only else store.with_read_only(read_only=True)
    path = Path(_local(source))
    if path.is_dir():
        return LocalStore(path, read_only=True)
    if not path.exists():
        raise StoreError(f"expected a store, but {path} does not exist; check the path")
    if not zipfile.is_zipfile(path):
        raise StoreError(f"expected a store (a folder or a zip), but {path} is another file")
    zipped = ZipStore(path, mode="r", read_only=True)
    sync(zipped._ensure_open())
    return zipped


def read_object(store: Store, path: str) -> bytes | None:
    """The bytes of one object, None if it is not there."""
    buffer = sync(store.get(path, default_buffer_prototype()))
    return None if buffer is None else buffer.to_bytes()


def read_json(store: Store, path: str) -> dict[str, Any]:
    """A JSON object of a store; raises StoreError if it is missing or not one."""
    data = read_object(store, path)
    if data is None:
        raise StoreError(f"expected a wsicodec store, but it has no {path}; is it one?")
    try:
        document = json.loads(data)
    except ValueError as error:
        raise StoreError(f"expected JSON in {path}, but it is damaged: {error}") from error
    if not isinstance(document, dict):
        raise StoreError(f"expected a JSON object in {path}, got {type(document).__name__}")
    return document


def read_info(store: Store) -> StoreInfo:
    """What a store says of itself; raises StoreError if it is not one of this format."""
    return StoreInfo.from_json(read_json(store, ROOT).get("attributes", {}).get("wsicodec"))


def list_objects(store: Store) -> list[str]:
    """The paths of all objects of a store, sorted."""

    async def collect() -> list[str]:
        return [path async for path in store.list_prefix("")]

    return sorted(sync(collect()))


def copy_into(folder: Path, store: Store) -> None:
    """Copy a finished store's objects; its root comes last, so that a part never opens."""
    order = {MANIFEST: 0, ROOT: 2}
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    make = default_buffer_prototype().buffer.from_bytes
    for path in sorted(files, key=lambda name: (order.get(name, 1), name)):
        sync(store.set(path, make(files[path].read_bytes())))


def write_zip(folder: Path, out: Path) -> int:
    """Pack a finished store uncompressed, as zarr's ZipStore reads it; returns the file's bytes."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.relative_to(folder).as_posix(), ZIP_TIME)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())
    with out.open("rb") as packed:
        os.fsync(packed.fileno())
    return out.stat().st_size


def _remote(target: Target) -> Store | None:
    if isinstance(target, Store):
        return target
    text = os.fspath(target)
    if ("://" in text or "::" in text) and not text.startswith("file://"):
        return FsspecStore.from_url(text)
    return None


def _local(target: Target) -> str:
    assert not isinstance(target, Store)
    return os.fspath(target).removeprefix("file://")


def _standing(destination: Destination) -> str:
    return (
        f"expected nothing at {destination}, but something stands there; "
        "give overwrite=True (on the command line --overwrite), or choose another name"
    )


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
