"""From a level's array to its slide's root, also when the level itself was opened as a store."""

from pathlib import PurePosixPath
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, StorePath, WrapperStore

from wsicodec.config import DrawOptions
from wsicodec.errors import StoreError


class DrawingStore(WrapperStore[Store]):
    """A store whose slides are drawn as its reader asked."""

    def __init__(self, store: Store, options: DrawOptions) -> None:
        super().__init__(store)
        self.options = options

    def _with_store(self, store: Store) -> "DrawingStore":
        return DrawingStore(store, self.options)


def draw_options(store: Store) -> DrawOptions:
    """How the reader of a store wants pixels drawn; the defaults unless it is a DrawingStore."""
    while isinstance(store, WrapperStore):
        if isinstance(store, DrawingStore):
            return store.options
        store = store._store
    return DrawOptions()


def slide_root(store: Store, array: str, to_root: str) -> StorePath:
    """The root group of the slide that an array belongs to.

    Args:
        store: where the array is.
        array: its path in the store; "" when the store's root is the array itself.
        to_root: the way up, ".." or "../..".

    Raises:
        StoreError: the root lies above the store's, and this kind of store has no above.
    """
    parts = [part for part in array.split("/") if part]
    up = to_root.count("..")
    if len(parts) >= up:
        return StorePath(store, "/".join(parts[: len(parts) - up]))
    return StorePath(_climb(store, up - len(parts)), "")


def _climb(store: Store, up: int) -> Store:
    """The same kind of store, rooted `up` directories higher."""
    if isinstance(store, DrawingStore):
        return DrawingStore(_climb(store._store, up), store.options)
    while isinstance(store, WrapperStore):
        store = store._store
    if isinstance(store, LocalStore):
        return LocalStore(store.root.absolute().parents[up - 1], read_only=True)
    if isinstance(store, FsspecStore):
        path = PurePosixPath(store.path)
        if len(path.parents) >= up:
            filesystem: Any = store.fs
            return FsspecStore(filesystem, path=str(path.parents[up - 1]), read_only=True)
    raise StoreError(
        f"this level was opened by itself from a {type(store).__name__}, and its slide lies above "
        "it; open the slide's root and take the level from there: zarr.open(slide)['0']"
    )
