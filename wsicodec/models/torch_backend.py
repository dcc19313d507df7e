"""The networks on PyTorch: CUDA where there is a card, else the CPU.

On the CPU one window and one thread make a call, as with ONNX Runtime; on CUDA calls are batches
of a fixed size. Either way a window's pixels do not depend on what is drawn beside it. What a card
draws goes through `codec.draw_device`, except where drawing starts from the parent's latent or
does not keep to its colours.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.errors import BundleError
from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Conditions, Embedder, Floats, in_batches
from wsicodec.models.renderer import Renderer, RendererConfig
from wsicodec.models.vit import VisionTransformer, VitConfig
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig

CUDA_BATCH = 16  # windows per call

Module = TypeVar("Module", bound=nn.Module)


def load_module(
    module: Module, bundle: Bundle, part: str, where: torch.device | None = None
) -> Module:
    """Fill a module from a part of the bundle, every tensor of it, and make it ready to run.

    It goes to `where`, or by default to the card if there is one.
    """
    weights = {name: torch.from_numpy(v.copy()) for name, v in bundle.weights(part).items()}
    try:
        module.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{part} of bundle {bundle.name} does not fit: {reason}") from error
    return module.eval().requires_grad_(requires_grad=False).to(where or device())


def load_small(bundle: Bundle, where: torch.device | None = None) -> tuple[ZoomLDM, Renderer]:
    """The denoiser and the renderer of a bundle of the small family, in float32."""
    config = bundle.config
    denoiser = ZoomLDM(ZoomLDMConfig.from_json(config["zoomldm"]))
    renderer = Renderer(RendererConfig.from_json(config["renderer"]))
    return (
        load_module(denoiser, bundle, "zoomldm.safetensors", where),
        load_module(renderer, bundle, "renderer.safetensors", where),
    )


def device() -> torch.device:
    """The card if there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if torch.cuda._is_in_bad_fork():
        raise BundleError(
            "this process was forked after CUDA was used in its parent, which CUDA does not "
            "survive; start workers with the spawn or forkserver method"
        )
    return torch.device("cuda")


class TorchDrawing:
    """Denoiser, renderer and autoencoder of a bundle."""

    def __init__(self, bundle: Bundle) -> None:
        self._denoiser, self._renderer = load_small(bundle)
        self._autoencoder = load_module(
            PixelShuffleAutoencoder(AutoencoderConfig.from_json(bundle.config["autoencoder"])),
            bundle,
            "autoencoder.safetensors",
        )
        self._device = device()
        self.batch = CUDA_BATCH if self._device.type == "cuda" else 1

    def denoise(self, x: Floats, t: float, step: float, conditions: Conditions) -> Floats:
        """See `networks.Drawing`."""
        with _single(self._device):
            clean: Floats = self._denoiser(
                self._put(x),
                self._put(np.full(len(x), t, np.float32)),
                self._put(np.full(len(x), step, np.float32)),
                self._put(conditions.parent),
                self._put(conditions.has_parent),
                self._put(conditions.embeddings),
                self._put(conditions.magnification),
            ).numpy(force=True)
        return clean

    def render(self, latent: Floats, conditions: Conditions) -> Floats:
        """See `networks.Drawing`."""
        with _single(self._device):
            rgb: Floats = self._renderer(
                self._put(latent),
                self._put(conditions.parent),
                self._put(conditions.has_parent),
                self._put(conditions.magnification),
            ).numpy(force=True)
        return rgb

    def encode(self, pixels: Floats) -> Floats:
        """See `networks.Drawing`."""
        with _single(self._device):
            return self._autoencoder.encode(self._put(pixels)).numpy(force=True)

    def _put(self, values: NDArray[np.float32] | NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._device)


@contextmanager
def _single(where: torch.device) -> Iterator[None]:
    """Inference on one thread of the CPU, so that no sum depends on how many cores there are.

    PyTorch keeps the number of threads per calling thread; it is put back on leaving.
    """
    threads = torch.get_num_threads()
    if where.type == "cpu":
        torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            yield
    finally:
        if where.type == "cpu":
            torch.set_num_threads(threads)


def load_embedder(bundle: Bundle) -> Embedder:
    """The patch embedder of a bundle."""
    config = VitConfig.from_json(bundle.config["embedder"])
    module = load_module(VisionTransformer(config), bundle, "embedder.safetensors")
    where = device()

    def embed(patches: NDArray[np.uint8]) -> Floats:
        with torch.inference_mode():
            images = torch.from_numpy(patches).to(where).permute(0, 3, 1, 2).float()
            vectors: Floats = module(images * (2 / 255) - 1).numpy(force=True)
        return vectors

    return in_batches(embed, bundle.embedding_width)
