"""A bundle without weights and networks without layers, so that stores can be made in a second."""

import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from safetensors.numpy import save
from zarr.registry import register_codec

from wsicodec.codec import compute
from wsicodec.codec.embed_zarr import Embed
from wsicodec.codec.image_zarr import Image
from wsicodec.codec.pixels_zarr import Pixels
from wsicodec.coding.fit import fit_tables
from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.models.bundle import SEARCH_VARIABLE, Bundle, load_bundle
from wsicodec.models.edm import PART
from wsicodec.models.edm_config import EdmConfig, shapes
from wsicodec.models.stain_colours import CONTRAST_CENTRES, CONTRAST_SCALES, FLATTEST

WIDTH = 16  # values per embedding
CHANNELS = 4  # of the latent


def make_bundle(folder: Path) -> Bundle:
    """Write a bundle with real tables of embeddings and no networks, and make it findable."""
    vectors = np.random.default_rng(0).normal(size=(400, WIDTH)).astype(np.float32)
    part = save(fit_tables(vectors, step=0.5).to_tensors())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "codec.safetensors").write_bytes(part)
    config = {
        "format": 1,
        "name": "fake",
        "family": "small",
        "licence": "Apache-2.0",
        "embedder": {"width": WIDTH},
        "autoencoder": {"latent_channels": CHANNELS},
        "schedule": {"kind": "flow", "steps": 1},
        "embedding_scale": 1.0,
        "anchors": {
            "standard": {"level": 2, "codec": "avif", "quality": 10},
            "detail": {"level": 1, "codec": "jpegxl", "quality": 60},
        },
        "files": {"codec.safetensors": hashlib.sha256(part).hexdigest()},
    }
    (folder / "bundle.json").write_text(json.dumps(config))
    os.environ[SEARCH_VARIABLE] = str(folder.parent)
    return load_bundle(folder)


def with_edm(bundle: Bundle, folder: Path) -> Path:
    """The bundle with a model of a few weights that draws tissue at random."""
    tables = EmbeddingTables.from_tensors(bundle.tensors("codec.safetensors"))
    config = EdmConfig(
        components=tables.components,
        width=8,
        depth=1,
        heads=1,
        mlp_ratio=1,
        octaves=2,
        window=8,
    )
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(config).items()}
    weights["deviation"] += 2
    return _with_part(bundle, folder, PART, save(weights), {"edm": config.to_json()})


def with_stains(bundle: Bundle, folder: Path) -> Path:
    """The bundle with an embedder to which every patch is of one even grey: 200."""
    flat = (np.array([np.log(FLATTEST), 0, 0]) - CONTRAST_CENTRES) / CONTRAST_SCALES
    centre = np.concatenate([np.full(3, -np.log(201 / 256)), np.zeros(2), flat, np.full(6, -9.3)])
    stains = {"stains.centre": centre, "stains.scale": np.zeros((len(centre),) * 2)}
    part = save({k: v.astype(np.float32) for k, v in stains.items()})
    embedder = {"width": WIDTH - len(centre), "statistics": len(centre)}
    told = {"name": "sketching", "embedder": embedder}
    return _with_part(bundle, folder, "embedder.safetensors", part, told)


def _with_part(
    bundle: Bundle, folder: Path, name: str, part: bytes, settings: dict[str, Any]
) -> Path:
    folder.mkdir()
    for known in bundle.config["files"]:
        (folder / known).write_bytes(bundle.read(known))
    (folder / name).write_bytes(part)
    files = {**bundle.config["files"], name: hashlib.sha256(part).hexdigest()}
    (folder / "bundle.json").write_text(json.dumps({**bundle.config, **settings, "files": files}))
    return folder


def embed(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means and deviations of colours in the quarters of each patch."""
    n = len(patches)
    values = patches.reshape(n, 2, 128, 2, 128, 3).astype(np.float32)
    means = np.pad(values.mean((2, 4)).reshape(n, 12) / 64 - 2, ((0, 0), (0, WIDTH - 12)))
    # Depends on the batch, as real matrix products do, so that grouping is tested.
    return np.asarray(means + 0.5 * (n % 7) + 0.01, np.float32)


class Networks:
    """Stands for the networks that draw: latents are the noise's own, pixels are latents."""

    batch = 4

    def denoise(
        self, x: NDArray[np.float32], t: float, step: float, conditions: Any
    ) -> NDArray[np.float32]:
        return 0.5 * x

    def render(self, latent: NDArray[np.float32], conditions: Any) -> NDArray[np.float32]:
        return np.clip(latent[:, :3].repeat(8, axis=2).repeat(8, axis=3), -0.9, 0.9)

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        small = pixels[:, :, ::8, ::8]
        return np.concatenate([small, small[:, :1]], axis=1)


def install() -> None:
    """Draw with `Networks`, and register the codecs where the package is not installed."""
    for name, replacement in (
        ("choose_backend", lambda backend: "fake"),
        ("load_drawing", lambda bundle, backend: Networks()),
    ):
        setattr(compute, name, replacement)
    installed = importlib.metadata.entry_points(group="zarr.codecs").names
    for name, codec in (
        ("wsicodec.embed", Embed),
        ("wsicodec.image", Image),
        ("wsicodec.pixels", Pixels),
    ):
        if name not in installed:
            register_codec(name, codec)


def tissue_picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Pink noise-ground with a strip of white glass on the right."""
    rng = np.random.default_rng(seed)
    small = rng.integers(90, 220, (-(-height // 16), -(-width // 16), 3))
    rgb = small.repeat(16, axis=0).repeat(16, axis=1)[:height, :width].astype(np.uint8)
    rgb[..., 1] = rgb[..., 1] // 2
    rgb[:, int(width * 0.8) :] = 244
    return rgb


def read(store: Any, path: str) -> NDArray[Any]:
    """An array of a store, whole, by plain zarr."""
    array = zarr.open_group(store, mode="r")[path]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[...])
