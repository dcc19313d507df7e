"""An unfinished store on disk: where it stands, who may write it, and what of it is done.

.{name}.partial/
  lock          held by the one process that writes
  job.json      what is being made; another job starts afresh
  journal       a line of JSON per finished unit: its objects with their digests
  parts/        raw pixels of coarse pictures whose chunks span several units
  store/        becomes the slide under its final name
  replaced/     for a moment, the store whose name it takes
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from wsicodec.errors import StoreError
from wsicodec.store.metadata import dump

Objects = dict[str, tuple[int, str]]  # path below store/ or parts/ -> bytes, SHA-256 in hex


class Job:
    """The partial store beside `destination`; use it as a context manager.

    destination: what the finished store will be called.
    plan: everything that decides on the result; a partial store of another plan is discarded.

    Raises StoreError if another process writes the same destination.
    """

    def __init__(self, destination: Path, plan: dict[str, Any]) -> None:
        self.root = partial_path(destination)
        self.store = self.root / "store"
        self.replaced = self.root / "replaced"  # the store that this one takes the place of
        self._plan = dump(plan)
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._held as held:
            held.enter_context(hold(self.root))
            self._prepare()
            self._held = held.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def _prepare(self) -> None:
        described = self.root / "job.json"
        if not described.is_file() or described.read_bytes() != self._plan:
            for entry in self.root.iterdir():
                if entry.name != "lock":
                    _remove(entry)
            write_atomically(described, self._plan)
        self.store.mkdir(exist_ok=True)

    def finished(self) -> dict[str, Objects]:
        """Units whose every object still stands as the journal says; others are forgotten."""
        units = {
            unit: objects
            for unit, objects in self._journal()
            if all(self._stands(path, *entry) for path, entry in objects.items())
        }
        lines = [_line(unit, objects) for unit, objects in units.items()]
        write_atomically(self.root / "journal", b"".join(lines))
        return units

    def _journal(self) -> Iterator[tuple[str, Objects]]:
        try:
            lines = (self.root / "journal").read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                record = json.loads(line)
                yield record["unit"], {p: (int(n), str(h)) for p, (n, h) in record["on"].items()}
            except (ValueError, KeyError, TypeError):
                return  # the line that was being written when the process died

    def _stands(self, path: str, size: int, digest: str) -> bool:
        file = self._locate(path)
        if not file.is_file() or file.stat().st_size != size:
            return False
        return hashlib.sha256(file.read_bytes()).hexdigest() == digest

    def finish_unit(self, unit: str, objects: Objects) -> None:
        """Note that a unit's objects stand; after this returns it survives a crash."""
        with (self.root / "journal").open("ab") as journal:
            journal.write(_line(unit, objects))
            journal.flush()
            os.fsync(journal.fileno())

    def write(self, path: str, data: bytes) -> Objects:
        """Write one object, all or nothing; paths under "parts/" stay out of the store."""
        write_atomically(self._locate(path), data)
        return {path: (len(data), hashlib.sha256(data).hexdigest())}

    def read(self, path: str) -> bytes:
        """The bytes of an object that `write` wrote."""
        return self._locate(path).read_bytes()

    def _locate(self, path: str) -> Path:
        return (self.root if path.startswith("parts/") else self.store) / path

    def sync(self) -> None:
        """Bring every object of the store to the disk."""
        for folder, _, names in os.walk(self.store):
            for name in names:
                _fsync(Path(folder) / name)
            _fsync(Path(folder))

    def discard(self) -> None:
        """Remove the partial store; the job is over."""
        _remove(self.root)


def partial_path(destination: Path) -> Path:
    """The folder in which the store for `destination` is made."""
    return destination.with_name(f".{destination.name}.partial")


def clear_leftovers(destination: Path) -> None:
    """Mend what a process left that died while it gave its finished store its name."""
    partial = partial_path(destination)
    if not partial.is_dir():
        return
    with contextlib.suppress(StoreError), hold(partial):
        replaced = partial / "replaced"
        if os.path.lexists(replaced) and not os.path.lexists(destination):
            replaced.replace(destination)
        if not (partial / "store").exists():
            _remove(partial)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, then give it its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Own a partial store while the block runs; raises StoreError if somebody else does."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # its last owner removed the folder just now
        try:
            _lock(descriptor, folder)
            if not _is_at(descriptor, folder / "lock"):
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StoreError(
            f"expected to be the only writer, but another process is writing in {folder.name}; "
            "wait for it, or stop it"
        ) from error


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _line(unit: str, objects: Objects) -> bytes:
    return dump({"unit": unit, "on": objects}) + b"\n"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _fsync(path: Path) -> None:
    if path.is_dir() and sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
