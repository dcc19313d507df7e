"""Slides encoded once for tests of this folder, with the embedded bundle."""

from pathlib import Path

import pytest

import wsicodec


@pytest.fixture(scope="session")
def semantic_store(drawn_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn slide with preset `semantic` and a region kept; do not change it."""
    path = tmp_path_factory.mktemp("stores") / "semantic.zarr"
    wsicodec.encode(drawn_slide, path, preset="semantic", roi=[(300, 300, 400, 500)])
    return path
