"""These tests ask networks, they do not train them."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    import torch

    with torch.no_grad():
        yield
