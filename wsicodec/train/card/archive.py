"""Named arrays and facts in files of a largest size, NumPy's own format, nothing pickled."""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.errors import ConfigError

Arrays = dict[str, NDArray[Any]]
FACTS = "facts"  # the array that holds a file's facts as JSON
EXACT = 4096  # tensors of fewer values stay in single precision: scales, means and biases
PART = 15 << 20  # bytes of arrays in one part


def save(path: Path, arrays: Mapping[str, NDArray[Any]], facts: dict[str, Any]) -> None:
    """Write arrays and facts into one file, whole or not at all."""
    told = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as opened:
        np.savez(opened, allow_pickle=False, **{FACTS: told, **arrays})
        opened.flush()
        os.fsync(opened.fileno())
    temporary.replace(path)


def load(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Read arrays and facts back; raises ConfigError on anything that is not such a file."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
        facts = json.loads(arrays.pop(FACTS).tobytes())
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"expected arrays with facts in {path}, got {error!r}") from error
    return arrays, facts


def save_parts(
    folder: Path, stem: str, arrays: Mapping[str, NDArray[Any]], part: int = PART
) -> list[Path]:
    """Write arrays into `stem`0.npz, `stem`1.npz ..., each of at most `part` bytes of values.

    Raises ConfigError when one array alone is larger.
    """
    groups: list[Arrays] = [{}]
    filled = 0
    for name, array in arrays.items():
        if array.nbytes > part:
            raise ConfigError(f"expected arrays of at most {part} bytes, {name} has {array.nbytes}")
        if filled + array.nbytes > part:
            groups.append({})
            filled = 0
        groups[-1][name] = array
        filled += array.nbytes
    paths = [folder / f"{stem}{number}.npz" for number in range(len(groups))]
    for path, group in zip(paths, groups, strict=True):
        save(path, group, {"parts": len(groups)})
    return paths


def load_parts(folder: Path, stem: str) -> Arrays:
    """Read what `save_parts` wrote; raises ConfigError when a part is missing."""
    arrays, facts = load(folder / f"{stem}0.npz")
    for number in range(1, int(facts["parts"])):
        arrays |= load(folder / f"{stem}{number}.npz")[0]
    return arrays


def to_arrays(tensors: Mapping[str, Tensor], *, half: bool) -> Arrays:
    """Tensors as arrays; with `half`, large floating ones in half precision."""
    arrays = {}
    for name, tensor in tensors.items():
        small = half and tensor.is_floating_point() and tensor.numel() >= EXACT
        arrays[name] = (tensor.detach().half() if small else tensor.detach()).cpu().numpy()
    return arrays


def to_tensors(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    """Arrays as tensors, half precision widened."""
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in arrays.items()}
    return {k: v.float() if v.dtype == torch.float16 else v for k, v in tensors.items()}
