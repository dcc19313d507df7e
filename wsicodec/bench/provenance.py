"""Where and with what a figure was made."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wsicodec import __version__

LIBRARIES = ("wsicodec", "numpy", "zarr", "onnxruntime", "imagecodecs", "torch")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


@cache
def machine() -> str:
    """The processor and how many of its cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_cpu()}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


@cache
def versions() -> str:
    """The libraries that a figure may depend on, as far as they are installed."""
    return " ".join(f"{name} {found}" for name in LIBRARIES if (found := _version(name)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def commit() -> str:
    """The commit measured, with a plus if the tree differs from it; the release outside a tree."""
    here = Path(__file__)

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", *words]
        return subprocess.run(command, cwd=here.parent, capture_output=True, text=True, check=False)  # noqa: S603

    try:
        tracked = git("ls-files", "--error-unmatch", "../__init__.py").returncode == 0
    except OSError:
        tracked = False
    if not tracked:
        return f"release {__version__}"
    changed = git("status", "--porcelain").stdout.strip()
    return git("rev-parse", "--short=12", "HEAD").stdout.strip() + ("+" if changed else "")
