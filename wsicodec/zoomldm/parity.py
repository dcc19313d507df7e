"""Whether an imported network computes what the code it was published with computes.

    1. wsicodec model probes BUNDLE probes.safetensors
    2. With the published code: load the checkpoint there, put every network into eval mode and
       float32, run it on the probes of its name, and save what comes out under these names:

       embedder          (1, d)             of embedder.image, as it is: already normalised
       summarizer.K      (1, tokens, width) of summarizer.grid.K at magnification K, 0 to 4, as they
                         are: already pooled and standardised; with p_uncond = 0
       unet              (1, c, h, w)       of unet.x, unet.t, unet.context
       encode            (1, c, h, w)       of autoencoder.image, before the quantiser
       decode            (1, 3, 4h, 4w)     of autoencoder.latent, quantised

    3. wsicodec model parity BUNDLE outputs.safetensors

Probes are hashed numbers, the same on every machine; two kernels never agree to the last bit, so
outputs are compared by their relative root mean square error.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from wsicodec.diffusion.noise import noise_field
from wsicodec.errors import BundleError
from wsicodec.geometry import Region
from wsicodec.models.bundle import Bundle
from wsicodec.models.published.loading import load_network

Arrays = dict[str, NDArray[Any]]
KEY = "5eed" * 8  # names the field of noise that probes are cut from
STEP = 500  # trained step of the U-Net's probe
TOLERANCE = 1e-3  # relative; float32 through tens of layers, and a code at a tie now and then


def probes(bundle: Bundle) -> Arrays:
    """Inputs for every network of a bundle of a published family, in float32."""
    found: Arrays = {}
    config = bundle.config
    parts = {name.removesuffix(".safetensors") for name in config["files"]}
    if "embedder" in parts:
        found["embedder.image"] = _image(0, config["embedder"].get("size", 256))
    if "autoencoder" in parts:
        found["autoencoder.image"] = _image(1)
        found["autoencoder.latent"] = _field(2, config["autoencoder"]["latent_channels"], 64, 64)
    if "unet" in parts:
        unet = config["unet"]
        found["unet.x"] = _field(3, unet["latent_channels"], 64, 64)
        found["unet.t"] = np.array([STEP], np.int64)
        found["unet.context"] = _field(4, 1, 65, unet["context_width"])[:, 0]
    if "summarizer" in parts:
        for level in _levels(bundle):
            side = min(8, 1 << level)
            grid = _field(5 + level, config["summarizer"]["embedding_width"], side, side)
            found[f"summarizer.grid.{level}"] = grid
    return found


@torch.inference_mode()
def outputs(bundle: Bundle) -> Arrays:
    """What our networks make of the probes."""
    given = {name: torch.from_numpy(values) for name, values in probes(bundle).items()}
    found: dict[str, torch.Tensor] = {}
    if "embedder.image" in given:
        vit = load_network(bundle, "embedder")
        found["embedder"] = vit(given["embedder.image"])
    if "summarizer.grid.0" in given:
        summarizer = load_network(bundle, "summarizer")
        for level in _levels(bundle):
            grid, magnification = given[f"summarizer.grid.{level}"], torch.tensor([level])
            found[f"summarizer.{level}"] = summarizer(grid, magnification)
    if "unet.x" in given:
        unet = load_network(bundle, "unet")
        told = torch.tensor([0]) if bundle.config["unet"]["magnifications"] else None
        found["unet"] = unet(given["unet.x"], given["unet.t"], given["unet.context"], told)
    if "autoencoder.image" in given:
        autoencoder = load_network(bundle, "autoencoder")
        found["encode"] = autoencoder.encode(given["autoencoder.image"])
        found["decode"] = autoencoder.decode(given["autoencoder.latent"])
    return {name: tensor.contiguous().numpy() for name, tensor in found.items()}


def _levels(bundle: Bundle) -> range:
    """The magnifications that the summarizer is probed at: at most five of those it knows."""
    return range(min(5, bundle.config["summarizer"]["magnifications"]))


def write_probes(bundle: Bundle, path: str | Path) -> Path:
    """Write a bundle's probes as a safetensors file."""
    save_file(probes(bundle), path)
    return Path(path)


def compare(bundle: Bundle, path: str | Path) -> dict[str, float]:
    """Relative root mean square error of every output against a reference run's file.

    Raises:
        BundleError: the file cannot be read, or holds other outputs or shapes.
    """
    try:
        reference = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"expected a safetensors file of outputs at {path}: {error}") from error
    ours = outputs(bundle)
    if reference.keys() != ours.keys():
        raise BundleError(
            f"expected the outputs {', '.join(sorted(ours))}, got {', '.join(sorted(reference))}"
        )
    for name, values in ours.items():
        if reference[name].shape != values.shape:
            raise BundleError(
                f"expected output {name} of shape {values.shape}, got {reference[name].shape}"
            )
    return {name: _error(values, reference[name]) for name, values in ours.items()}


def _error(ours: NDArray[np.float32], reference: NDArray[Any]) -> float:
    """Root mean square of the difference over that of the reference."""
    wanted = reference.astype(np.float64)
    scale = np.sqrt(np.square(wanted).mean())
    return float(np.sqrt(np.square(ours - wanted).mean()) / max(scale, np.finfo(np.float64).tiny))


def _field(index: int, channels: int, height: int, width: int) -> NDArray[np.float32]:
    """Standard normal numbers (1, c, h, w), other ones for every index."""
    return noise_field(KEY, index, Region(0, 0, height, width), channels)[None]


def _image(index: int, side: int = 256) -> NDArray[np.float32]:
    return np.asarray(np.clip(0.4 * _field(index, 3, side, side), -1, 1), np.float32)
