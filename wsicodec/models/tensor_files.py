"""A tensor in PyTorch's own file, for other programs; nothing here ever reads one."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray


def save_tensor(values: NDArray[np.float32], path: Path) -> None:
    """Write an array as `torch.save` does."""
    with path.open("wb") as file:
        torch.save(torch.from_numpy(np.ascontiguousarray(values)), file)
