"""Bytes on disk. What they are divided by is the store's to say: see `wsicodec.info`."""

from pathlib import Path

from wsicodec.errors import StoreError


def bytes_on_disk(path: Path) -> int:
    """Sizes of a file, or of all files below a folder, hidden ones and metadata included.

    Raises StoreError where nothing stands.
    """
    if path.is_file():
        return path.stat().st_size
    if not path.is_dir():
        raise StoreError(f"expected a file or a folder at {path}, found neither")
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
