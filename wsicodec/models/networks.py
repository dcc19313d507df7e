"""The networks as a codec sees them: NumPy in, NumPy out, whichever runtime is behind."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle

Floats = NDArray[np.float32]
EMBED_BATCH = 8  # patches per call of an embedder
Embedder = Callable[[NDArray[np.uint8]], Floats]
"""(n, 256, 256, 3) RGB patches to (n, d) embeddings."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a denoiser is told besides the noisy latent; n windows of h x w latent cells."""

    parent: Floats  # (n, 3, 4h, 4w) pixels of the level above in [-1, 1]
    has_parent: Floats  # (n,) 1 where there is one, else 0 and a parent of zeros
    embeddings: Floats  # (n, d + 1, h / 4, w / 4) conditioning map
    magnification: NDArray[np.int64]  # (n,) index, 0 for 20x to 7


class Drawing(Protocol):
    """The networks that draw; results do not depend on what else is in a batch."""

    batch: int  # windows per call; calls are always full

    def denoise(self, x: Floats, t: float, step: float, conditions: Conditions) -> Floats:
        """The clean latent (n, c, h, w) expected behind x at time t, before a step of `step`."""

    def render(self, latent: Floats, conditions: Conditions) -> Floats:
        """Latents (n, c, h, w) over their parent to pixels (n, 3, 8h, 8w), around [-1, 1]."""

    def encode(self, pixels: Floats) -> Floats:
        """Pixels (n, 3, 8h, 8w) in [-1, 1] to latents (n, c, h, w)."""


def to_network(rgb: NDArray[np.uint8]) -> Floats:
    """(n, h, w, 3) bytes to (n, 3, h, w) in [-1, 1]."""
    scaled = rgb.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def in_batches(embed: Embedder, width: int, workers: int = 1) -> Embedder:
    """An embedder of any number of patches from one that always takes EMBED_BATCH of them.

    The last batch is filled up, so that no patch ever sees another batch size: sums in another
    order would give a resumed encoding other bytes.

    Args:
        embed: takes (EMBED_BATCH, 256, 256, 3) and may be called from several threads.
        width: of an embedding.
        workers: calls that run side by side.
    """
    pool = ThreadPoolExecutor(workers, "wsicodec-embed") if workers > 1 else None

    def one(part: NDArray[np.uint8]) -> Floats:
        missing = EMBED_BATCH - len(part)
        filled = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else part
        return embed(filled)[: len(part)]

    def embed_all(patches: NDArray[np.uint8]) -> Floats:
        parts = [patches[i : i + EMBED_BATCH] for i in range(0, len(patches), EMBED_BATCH)]
        found = list(pool.map(one, parts) if pool else map(one, parts))
        return np.concatenate(found) if found else np.empty((0, width), np.float32)

    return embed_all


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_backend(backend: str, graphs: bool = True) -> str:
    """Settle "auto": torch where it sees a CUDA device, else ONNX Runtime, else torch.

    Networks without graphs, such as imported ones, run on torch alone.
    """
    if backend != "auto":
        return backend
    if _cuda():
        return "torch"
    for name, module in (("onnx", "onnxruntime"), ("torch", "torch")):
        if find_spec(module) and (graphs or name == "torch"):
            return name
    if not graphs:
        raise BundleError(
            "expected PyTorch to run networks that have no ONNX graphs, as imported ones, and "
            "found none; install wsicodec[torch]"
        )
    raise BundleError(
        "expected onnxruntime or torch to run the networks, found neither; "
        "install wsicodec[cpu] or wsicodec[torch]"
    )


def load_embedder(bundle: Bundle, backend: str = "auto") -> Embedder:
    """The bundle's patch embedder on the chosen runtime; a codec need not be there yet."""
    bundle.require("embed")
    if choose_backend(backend, "embedder.onnx" in bundle.config["files"]) == "onnx":
        from wsicodec.models import onnx_backend

        return onnx_backend.load_embedder(bundle)
    if bundle.config["embedder"].get("design") == "timm":
        from wsicodec.models.published import loading

        return loading.load_embedder(bundle)
    from wsicodec.models import torch_backend

    return torch_backend.load_embedder(bundle)


def load_drawing(bundle: Bundle, backend: str = "auto") -> Drawing:
    """The networks of the bundle that draw, on the chosen runtime."""
    bundle.require("decode")
    if choose_backend(backend) == "onnx":
        from wsicodec.models import onnx_backend

        return onnx_backend.OnnxDrawing(bundle)
    from wsicodec.models import torch_backend

    return torch_backend.TorchDrawing(bundle)


def _cuda() -> bool:
    if not find_spec("torch"):
        return False
    # A CUDA build is large and slow to import: only look where a driver is present.
    from pathlib import Path

    if not any(Path("/dev").glob("nvidia[0-9]*")):
        return False
    import torch

    return torch.cuda.is_available()
