"""Fixtures and markers that every test may use."""

import importlib.util
import random
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=40, database=None
)
hypothesis.settings.load_profile("house")

HAS_TORCH = importlib.util.find_spec("torch") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    wanted = [item for item in items if item.get_closest_marker("gpu")]
    has_gpu = bool(wanted) and _cuda_is_there()
    for item in items:
        if item.get_closest_marker("torch") and not HAS_TORCH:
            item.add_marker(pytest.mark.skip(reason="PyTorch is not installed"))
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def _cuda_is_there() -> bool:
    if not HAS_TORCH:
        return False
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # for libraries that draw from the global generator
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator that starts the same way in every test."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def drawn_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn pyramidal TIFF of 1024 x 1536 px at 0.5 µm/px; read it, do not change it."""
    from wsicodec.slide import draw_slide

    path = tmp_path_factory.mktemp("slides") / "drawn.tif"
    draw_slide(path, size=(1024, 1536), seed=0)
    return path


@pytest.fixture(scope="session")
def standard_store(drawn_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn slide with preset `standard`, as a directory; do not change it."""
    import wsicodec

    path = tmp_path_factory.mktemp("stores") / "slide.zarr"
    wsicodec.encode(drawn_slide, path)
    return path


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real tissue that may lie beside the checkout."""
    path = Path(__file__).parents[1].parent / "shared" / "data"
    if not (path / "val").is_dir():
        pytest.skip("no real tissue beside the checkout")
    return path
