"""Pixels to features, from whatever network judges: bytes (n, h, w, 3) in, floats (n, d) out.

Nothing is downloaded, and nothing but tensors is read from a file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

Pixels = NDArray[np.uint8]
BATCH = 16  # pictures at a time


@dataclass(frozen=True)
class Extractor:
    """A network by the name that its distances bear, `fd_<name>`."""

    name: str
    run: Callable[[Pixels], NDArray[np.floating]]  # a few pictures at a time
    conditions: bool = False  # whether the decoder was conditioned on these very features

    def __call__(self, pixels: Pixels) -> NDArray[np.float64]:
        """Features (n, d) of pictures (n, h, w, 3) uint8; raises ConfigError on anything else."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not len(pixels):
            raise ConfigError(
                "expected pictures (n, h, w, 3) of uint8, at least one, "
                f"got {pixels.dtype} {pixels.shape}"
            )
        parts = [self._part(pixels[i : i + BATCH]) for i in range(0, len(pixels), BATCH)]
        return np.concatenate(parts)

    def _part(self, pixels: Pixels) -> NDArray[np.float64]:
        found = np.asarray(self.run(pixels), np.float64)
        if found.ndim != 2 or len(found) != len(pixels):
            raise ConfigError(
                f"expected {self.name} to give ({len(pixels)}, d) features, got {found.shape}; "
                "pool its output over the plane"
            )
        return found


def require_judges(extractors: list[Extractor]) -> None:
    """Refuse a benchmark judged by nothing but features that conditioned the decoder."""
    if not extractors or all(e.conditions for e in extractors):
        raise ConfigError(
            "expected a judge whose features did not condition the decoder, got "
            f"{[e.name for e in extractors]}; add the held-out encoder"
        )


def to_network(pixels: Pixels) -> NDArray[np.float32]:
    """(n, h, w, 3) bytes to (n, 3, h, w) in [-1, 1]."""
    scaled = pixels.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def from_module(name: str, module: "nn.Module") -> Extractor:
    """A PyTorch module that takes (n, 3, h, w) in [-1, 1] and gives (n, d); put in eval mode."""
    import torch

    module = module.eval()

    def run(pixels: Pixels) -> NDArray[np.floating]:
        with torch.inference_mode():
            found: NDArray[Any] = module(torch.from_numpy(to_network(pixels))).float().numpy()
        return found

    return Extractor(name, run)


def from_onnx(path: Path, name: str = "") -> Extractor:
    """An ONNX file with one input (n, 3, h, w) in [-1, 1], float32, and features first (n, d).

    Raises ConfigError if ONNX Runtime is not installed or cannot read the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(f"ONNX files need `pip install 'wsicodec[cpu]'`: {error}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    except Exception as error:
        raise ConfigError(f"expected an ONNX file at {path}: {error}") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise ConfigError(f"expected one input of {path}, got {[i.name for i in inputs]}")

    def run(pixels: Pixels) -> NDArray[np.floating]:
        found: NDArray[Any] = session.run(None, {inputs[0].name: to_network(pixels)})[0]
        return found

    return Extractor(name or path.stem, run)


def held_out() -> Extractor:
    """The held-out encoder that comes with the package; see `wsicodec.metrics.held_out`."""
    _require_torch("the held-out encoder")
    from wsicodec.metrics.held_out import load_held_out

    return from_module("held_out", load_held_out())


def inception(weights: Path) -> Extractor:
    """Inception-v3 as FID takes it, from a weights file; see `wsicodec.metrics.inception`."""
    _require_torch("Inception features")
    import torch

    from wsicodec.metrics.inception import load_inception

    network = load_inception(weights)

    def run(pixels: Pixels) -> NDArray[np.floating]:
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
            found: NDArray[Any] = network(images).numpy()
        return found

    return Extractor("inception", run)


def _require_torch(what: str) -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{what} needs `pip install 'wsicodec[torch]'`: {error}") from error
