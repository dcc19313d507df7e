"""What a user may import, and what importing costs."""

import subprocess
import sys
import time

import pytest

import wsicodec
from tests.checks import modules_loaded_by

EXPORTED = [
    "BitstreamError",
    "BundleError",
    "ConfigError",
    "GeneratedPixelsError",
    "MppError",
    "SlideError",
    "StoreError",
    "StoreExistsError",
    "WsiCodecError",
    "__version__",
    "check",
    "decode",
    "encode",
    "info",
    "open",
    "sample",
]
HEAVY = {"numcodecs", "numpy", "onnxruntime", "openslide", "rich", "tifffile", "torch", "zarr"}


def test_the_export_list_is_exact_and_sorted() -> None:
    assert wsicodec.__all__ == EXPORTED
    assert sorted(EXPORTED) == EXPORTED
    assert dir(wsicodec) == EXPORTED


@pytest.mark.parametrize("name", EXPORTED)
def test_every_export_is_there(name: str) -> None:
    assert getattr(wsicodec, name) is not None


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compress'"):
        _ = wsicodec.compress


def test_importing_loads_nothing_heavy() -> None:
    assert modules_loaded_by("import wsicodec").isdisjoint(HEAVY)


def test_naming_the_calls_loads_neither_torch_nor_zarr() -> None:
    loaded = modules_loaded_by("from wsicodec import check, decode, encode, info, open")
    assert loaded.isdisjoint({"torch", "onnxruntime", "zarr"})


def test_importing_takes_less_than_150_ms() -> None:
    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    # The least of several, because other processes may hold the cores for a while.
    costs = [seconds("import wsicodec") - seconds("pass") for _ in range(5)]
    assert min(costs) < 0.15
