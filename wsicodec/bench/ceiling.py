"""The autoencoder alone: every level through it from the original, with nothing stored."""

import numpy as np
import torch

from wsicodec.bench.fields import Mosaic
from wsicodec.bench.output import Output, Pixels, to_bytes
from wsicodec.errors import BundleError
from wsicodec.metrics.features import to_network
from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder
from wsicodec.models.bundle import Bundle
from wsicodec.resample import box_reduce


def load_autoencoder(bundle: Bundle) -> PixelShuffleAutoencoder:
    """The autoencoder that gave a bundle its latents; raises BundleError if it has none like it."""
    weights = bundle.weights("autoencoder.safetensors")
    model = PixelShuffleAutoencoder(AutoencoderConfig.from_json(bundle.config["autoencoder"]))
    try:
        model.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    except RuntimeError as error:
        raise BundleError(
            f"expected an autoencoder with a decoder of its own in {bundle.name}, "
            f"leave it out with --without autoencoder: {error}"
        ) from error
    return model.eval()


def autoencoded(mosaic: Mosaic, bundle: Bundle) -> Output:
    """Fields after encoding and decoding; its latents are not coded, so it has no rate."""
    model = load_autoencoder(bundle)

    @torch.inference_mode()
    def one(rgb: Pixels) -> Pixels:
        images = torch.from_numpy(to_network(rgb[None]))
        return to_bytes(np.asarray(model(images)[0].numpy()))

    def read(level: int) -> list[Pixels]:
        return [one(np.asarray(box_reduce(f.rgb, 1 << level))) for f in mosaic.fields]

    return Output(float("nan"), read, weights=bundle.fingerprint[:12])
