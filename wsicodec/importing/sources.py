"""A checkpoint as named tensors, whatever file or folder it came in."""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from wsicodec.errors import BundleError
from wsicodec.importing import unpickler
from wsicodec.importing.hub import fetch, is_reference, snapshot_of

PICKLED = (".pth", ".pt", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # all of the environment that the reader sees
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Source:
    """Named tensors in a safetensors file, and where they came from."""

    path: Path  # as the user gave it, or the file found in the folder given
    sha256: str  # of that file
    wrapper: str  # the key under which the tensors lay in a pickle; "" for the root
    shapes: dict[str, tuple[int, ...]]
    file: Any  # an open safetensors file
    origin: str = ""  # the Hub's repository that it was fetched from

    def read(self, name: str) -> NDArray[np.float32]:
        """One tensor in float32."""
        if (dtype := self.file.get_slice(name).get_dtype()) not in _FLOATS:
            raise BundleError(f"expected {name!r} of {self.path.name} in floats, got {dtype}")
        values: NDArray[np.float32] = self.file.get_tensor(name).float().numpy()
        return values


@contextmanager
def open_source(path: str | Path, scratch: Path | None = None) -> Iterator[Source]:
    """Open a checkpoint: .safetensors, .pth, .pt, .ckpt, .bin, or a folder that holds just one.

    A pickled file is first turned into safetensors by another process (see `unpickler`), in a
    temporary folder that is gone afterwards; nothing in it is ever run. Nothing is downloaded
    unless a repository of the Hub is named.

    Args:
        path: the file or folder, or hub:OWNER/NAME[@REVISION][:PATH] (see `hub`).
        scratch: where the temporary folder, as large as the file, is put; None is the system's way.

    Raises:
        BundleError: no such file, several in the folder, truncated, damaged, or not to be trusted.
    """
    named = is_reference(str(path))
    file = _one_file(fetch(str(path), SUFFIXES) if named else Path(path))
    with tempfile.TemporaryDirectory(prefix=".importing-", dir=scratch) as folder:
        tensors = file
        if file.suffix != ".safetensors":
            tensors = Path(folder) / "tensors.safetensors"
            _unpickle(file, tensors)
        try:
            with safe_open(tensors, framework="pt") as opened:
                names = opened.keys()
                shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
                wrapper = (opened.metadata() or {}).get("wrapper", "")
                origin = str(path) if named else ""
                yield Source(file, digest(file), wrapper, shapes, opened, origin)
        except SafetensorError as error:
            raise BundleError(f"{file} is no whole safetensors file: {error}") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_file(path: Path) -> Path:
    if path.is_file():
        if path.suffix in SUFFIXES:
            return path
        raise BundleError(f"expected a file ending in {', '.join(SUFFIXES)}, got {path}")
    if not path.is_dir():
        raise BundleError(
            f"expected a checkpoint file, or a folder with one, got {str(path)!r}, which is not "
            "there; nothing is downloaded unless it is named as hub:OWNER/NAME"
        )
    path = snapshot_of(path)
    found = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if len(found) != 1:
        names = ", ".join(str(p.relative_to(path)) for p in found[:8]) or "none"
        raise BundleError(f"expected one checkpoint in {path}, found {names}; name the one to take")
    return found[0]


def _unpickle(source: Path, destination: Path) -> None:
    """Turn a pickled checkpoint into safetensors in a process of its own."""
    done = subprocess.run(  # noqa: S603, our own file with two paths
        [sys.executable, "-I", "-S", unpickler.__file__, str(source.resolve()), str(destination)],
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
        cwd=destination.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == 0:
        return
    reason = done.stderr.decode("ascii", "replace").strip()
    if done.returncode != unpickler.REFUSED or not reason:
        reason = f"reading it ended with status {done.returncode}"
    raise BundleError(f"{source.name} was refused and nothing in it was run: {reason}")
