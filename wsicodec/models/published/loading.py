"""The networks of a bundle of a published family, from its files."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Embedder, Floats, in_batches
from wsicodec.models.published.registry import on_meta, sizes_of
from wsicodec.models.published.timm_vit import prepare
from wsicodec.models.torch_backend import device


def load_network(bundle: Bundle, part: str) -> Any:
    """One network of a bundle of a published family: "embedder", "unet" and so on.

    Weights are mapped from their file, not copied, once the file's digest is right.

    Raises:
        BundleError: the file is missing or damaged, or its tensors are not the settings'.
    """
    path = bundle.check(f"{part}.safetensors")
    network: Any = on_meta(sizes_of(part, bundle.family, bundle.config[part]))
    try:
        network.load_state_dict(load_file(path), strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{part} of bundle {bundle.name} does not fit: {reason}") from error
    return network.eval().requires_grad_(requires_grad=False)


def load_embedder(bundle: Bundle) -> Embedder:
    """The patch embedder of a bundle whose embedder is of timm's design."""
    where = device()
    network = load_network(bundle, "embedder").to(where)

    def embed(patches: NDArray[np.uint8]) -> Floats:
        with torch.inference_mode():
            images = prepare(torch.from_numpy(patches).to(where), network.config.size)
            vectors: Floats = network(images).numpy(force=True)
        return vectors

    return in_batches(embed, bundle.embedding_width)
