"""Bytes written once decode to the same floats in every later version."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from wsicodec.coding import EmbeddingTables, decode_grid, encode_grid

FOLDER = Path(__file__).parents[1] / "golden" / "wsicodec_embed" / "1"
CASES = ("blank", "block", "blosc2", "dense", "escapes", "sparse")


@pytest.fixture(scope="module")
def golden_tables() -> EmbeddingTables:
    return EmbeddingTables.from_tensors(safetensors.numpy.load_file(FOLDER / "tables.safetensors"))


@pytest.fixture(scope="module")
def index() -> dict[str, object]:
    return dict(json.loads((FOLDER / "index.json").read_text()))


def test_no_golden_file_is_missing_or_unknown(index: dict[str, object]) -> None:
    expected = {f"{name}.{end}" for name in CASES for end in ("npy", "bin")}
    assert {path.name for path in FOLDER.iterdir()} == expected | {
        "tables.safetensors",
        "index.json",
    }
    assert sorted(index["cases"]) == list(CASES)  # type: ignore[call-overload]


def test_the_fingerprint_of_the_tables_stands(
    golden_tables: EmbeddingTables, index: dict[str, object]
) -> None:
    assert golden_tables.fingerprint == index["tables_fingerprint"]


@pytest.mark.parametrize("name", CASES)
def test_old_bytes_decode_to_the_same_floats(
    golden_tables: EmbeddingTables, index: dict[str, dict[str, dict[str, str]]], name: str
) -> None:
    decoded, valid = decode_grid((FOLDER / f"{name}.bin").read_bytes(), golden_tables)
    digest = hashlib.sha256(decoded.astype("<f4").tobytes()).hexdigest()
    assert digest == index["cases"][name]["decoded_sha256"]
    np.testing.assert_array_equal(valid, np.load(FOLDER / f"{name}.npy").any(axis=2))


# The bytes of blosc2 are zstd's to choose and may change with its release.
@pytest.mark.parametrize("name", [name for name in CASES if name != "blosc2"])
def test_the_encoder_still_writes_the_same_bytes(golden_tables: EmbeddingTables, name: str) -> None:
    grid = np.load(FOLDER / f"{name}.npy")
    data = encode_grid(grid, grid.any(axis=2), golden_tables)
    assert data == (FOLDER / f"{name}.bin").read_bytes()


def test_regeneration_needs_an_explicit_yes() -> None:
    before = {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    script = FOLDER.parent / "regenerate.py"
    done = subprocess.run([sys.executable, script], capture_output=True, check=False)
    assert done.returncode == 2
    assert {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == before
