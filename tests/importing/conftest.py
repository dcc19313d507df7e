"""Fixtures of the import tests; all of them need PyTorch, and skip before they get here."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Saves a state as a checkpoint file and gives its path."""
    import torch

    def save(state: Any, name: str = "weights.ckpt") -> Path:
        path = tmp_path / name
        torch.save(state, path)
        return path

    return save


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    import torch

    with torch.no_grad():
        yield
