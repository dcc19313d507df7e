"""Checkpoints in a repository of the Hugging Face Hub, or in a snapshot of one on this machine.

    hub:OWNER/NAME            the repository's only checkpoint
    hub:OWNER/NAME@REVISION   at a branch, tag or commit
    hub:OWNER/NAME:PATH       one file of it

A snapshot needs no library: its folder, or the repository's folder in the Hub's cache
(`models--OWNER--NAME`), is given as a path.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from wsicodec.errors import BundleError

PREFIX = "hub:"
_REFERENCE = re.compile(
    r"hub:(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^:]+))?(:(?P<path>.+))?", re.ASCII
)


def is_reference(text: str) -> bool:
    """Whether a text names a repository of the Hub, and not a file."""
    return text.startswith(PREFIX)


def fetch(text: str, suffixes: tuple[str, ...]) -> Path:
    """The file, or the snapshot's folder, that a reference names; downloaded if it is not there.

    Args:
        text: as above.
        suffixes: what names of checkpoints end in; nothing else of a repository is fetched.

    Raises:
        BundleError: no such form, `huggingface_hub` is missing, or it could not fetch.
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise BundleError(f"expected hub:OWNER/NAME[@REVISION][:PATH], got {text!r}")
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise BundleError(
            f"{text} needs huggingface_hub; install wsicodec[hub], or fetch the repository "
            "yourself and give its folder"
        ) from error
    repo, revision, path = found["repo"], found["revision"], found["path"]
    try:
        if path:
            return Path(hub.hf_hub_download(repo, path, revision=revision))
        patterns = [f"*{suffix}" for suffix in suffixes]
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(
            f"cannot fetch {text}: {reason}; gated repositories need their terms accepted and a "
            "login by huggingface_hub"
        ) from error


def snapshot_of(folder: Path) -> Path:
    """The newest snapshot in a repository's folder of the Hub's cache; other folders as they are.

    Raises:
        BundleError: a cache folder whose snapshot is not there.
    """
    snapshots, main = folder / "snapshots", folder / "refs" / "main"
    if not snapshots.is_dir():
        return folder
    if main.is_file():
        snapshot = snapshots / main.read_text("utf-8").strip()
        if snapshot.is_dir():
            return snapshot
    found = [path for path in snapshots.iterdir() if path.is_dir()]
    if len(found) != 1:
        names = ", ".join(sorted(path.name for path in found)) or "none"
        raise BundleError(f"expected one snapshot in {folder}, found {names}; give its own folder")
    return found[0]
