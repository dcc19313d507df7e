"""Stage `variants`: latents, parents and embedding grids, made once for the denoiser."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.errors import ConfigError
from wsicodec.models.blocks import channels_last
from wsicodec.train.bundle import load_autoencoder, load_embedder
from wsicodec.train.data import DataConfig, Picture, Pixels, load_pictures, load_slides
from wsicodec.train.loop import rank_of_process
from wsicodec.train.streamed import encoder_of, stream_variants
from wsicodec.train.variants import (
    SEED_STRIDE,
    Embed,
    VariantConfig,
    assign,
    make_embeddings,
    make_latents,
    variant_folder,
)


@dataclass(frozen=True, slots=True)
class Preparation:
    """Which variants are made, and with which networks; an empty folder skips its half."""

    autoencoder: str = "runs/autoencoder"
    embedder: str = "runs/embedder"
    embedder_prefix: str = "average.teacher."
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)


def prepare(config: Preparation) -> None:
    """Make what is missing, variant by variant, so that training may start on the first.

    Under torchrun every process makes variants of its own. Slides that are streamed need their
    embeddings alone.
    """
    if config.data.stream:
        prepare_slides(config)
        return
    pictures = load_pictures(config.data)
    model = None
    if config.autoencoder:
        model = channels_last(load_autoencoder(Path(config.autoencoder))[0])
    embed = None
    if config.embedder:
        embed = patch_embedder(Path(config.embedder), config.embedder_prefix)
    rank, ranks = rank_of_process()
    for number, chosen in list(enumerate(assign(pictures, config.variants)))[rank::ranks]:
        for index in chosen:
            picture, draw = pictures[index], number * SEED_STRIDE + index
            folder = variant_folder(config.variants, number, picture)
            if model is not None and not (folder / "done.json").exists():
                make_latents(picture, draw, model, config.variants, folder)
            if embed is not None and _lacks_grid(folder, picture):
                make_embeddings(picture, draw, embed, config.variants, folder)


def prepare_slides(config: Preparation) -> None:
    """Embed every patch of tissue of every slide, variant by variant; goes on where it stopped."""
    if not config.embedder:
        raise ConfigError("expected an embedder's run in `embedder`: slides are embedded, no more")
    embed = patch_embedder(Path(config.embedder), config.embedder_prefix)
    rank, ranks = rank_of_process()
    variants = stream_variants(load_slides(config.data), config.variants, encoder_of(None))
    for variant in variants[rank::ranks]:
        if variant.kind != "overview" and variant.embeddings() is None:
            variant.make_embeddings(embed)


def _lacks_grid(folder: Path, picture: Picture) -> bool:
    # An overview's pixels are coarser than any patch an embedder was trained on.
    made = (folder / "done.json").exists()
    return made and picture.kind != "overview" and not (folder / "grid.npy").exists()


def patch_embedder(folder: Path, prefix: str) -> Embed:
    """The embedder of a run as a function of (n, 256, 256, 3) patches."""
    network = load_embedder(folder, prefix)[0]

    def embed(patches: Pixels) -> NDArray[np.float32]:
        with torch.no_grad():
            images = torch.from_numpy(patches).permute(0, 3, 1, 2).float().div(127.5).sub(1)
            vectors: NDArray[np.float32] = network(images).numpy()
        return vectors

    return embed
