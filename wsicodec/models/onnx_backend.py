"""The networks on ONNX Runtime, CPU. Graphs come without weights; the bundle's fill them.

One thread per call, and calls of one size: a result then depends neither on how much waits nor
on how many cores there are. Several calls run side by side.
"""

from typing import Any, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Conditions, Embedder, Floats, cores, in_batches, to_network


def session(bundle: Bundle, graph: str, part: str) -> Any:
    """An inference session over a graph of the bundle, with weights from one of its parts."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    data = bundle.read(graph)
    # A part may hold more than this graph (the encoder beside the decoder); names stand in clear.
    weights = {k: v for k, v in bundle.weights(part).items() if k.encode() in data}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in weights.values()]
    options.add_external_initializers(list(weights), values)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no public base class of its errors
        raise BundleError(f"onnxruntime cannot run {graph} of {bundle.name}: {error}") from error


class OnnxDrawing:
    """Denoiser and renderer of a bundle."""

    batch = 1

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._denoiser = session(bundle, "denoiser.onnx", "zoomldm.safetensors")
        self._renderer = session(bundle, "renderer.onnx", "renderer.safetensors")

    def denoise(self, x: Floats, t: float, step: float, conditions: Conditions) -> Floats:
        """See `networks.Drawing`."""
        feeds = {
            "x": x,
            "t": np.full(len(x), t, np.float32),
            "dt": np.full(len(x), step, np.float32),
            "parent": conditions.parent,
            "has_parent": conditions.has_parent,
            "cond": conditions.embeddings,
            "mag": conditions.magnification,
        }
        return cast("Floats", self._denoiser.run(None, feeds)[0])

    def render(self, latent: Floats, conditions: Conditions) -> Floats:
        """See `networks.Drawing`."""
        feeds = {
            "latent": latent,
            "parent": conditions.parent,
            "has_parent": conditions.has_parent,
            "mag": conditions.magnification,
        }
        return cast("Floats", self._renderer.run(None, feeds)[0])

    def encode(self, pixels: Floats) -> Floats:  # noqa: ARG002
        """See `networks.Drawing`."""
        raise BundleError(
            f"bundle {self._bundle.name} has no encoder graph for ONNX Runtime, which starting "
            "from the parent's own latent needs; read with backend='torch'"
        )


def load_embedder(bundle: Bundle) -> Embedder:
    """The patch embedder of a bundle."""
    run = session(bundle, "embedder.onnx", "embedder.safetensors").run

    def embed(patches: NDArray[np.uint8]) -> Floats:
        return cast("Floats", run(None, {"images": to_network(patches)})[0])

    return in_batches(embed, bundle.embedding_width, workers=cores())
