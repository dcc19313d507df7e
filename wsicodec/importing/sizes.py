"""Sizes of the published networks, read off the shapes of a checkpoint's tensors."""

import math
from collections.abc import Mapping

from wsicodec.models.published.patch_summarizer import PatchSummarizerConfig
from wsicodec.models.published.timm_vit import TimmVitConfig
from wsicodec.models.published.unet import LdmUNetConfig
from wsicodec.models.published.vit_summarizer import VitSummarizerConfig
from wsicodec.models.published.vq import VqConfig
from wsicodec.models.vit import VitConfig

Shapes = Mapping[str, tuple[int, ...]]
HEAD = 64  # channels of a head of every published transformer but the U-Net's, which has one head


def unet_sizes(shapes: Shapes) -> LdmUNetConfig:
    """Sizes of a U-Net from its tensors' shapes; KeyError or IndexError if it is none."""
    width, latent = shapes["input_blocks.0.0.weight"][:2]
    outs: list[int] = []
    attends: list[bool] = []
    blocks = index = 1
    fresh = True
    while (conv := f"input_blocks.{index}.0.in_layers.2.weight") in shapes or (
        f"input_blocks.{index}.0.op.weight" in shapes
    ):
        if conv not in shapes:
            fresh = True
        elif fresh:
            outs.append(shapes[conv][0])
            attends.append(f"input_blocks.{index}.1.norm.weight" in shapes)
            blocks, fresh = 1, False
        else:
            blocks += 1
        index += 1
    return LdmUNetConfig(
        latent_channels=latent,
        width=width,
        multipliers=tuple(out // width for out in outs),
        attention=tuple(attends),
        blocks=blocks,
        context_width=shapes["middle_block.1.transformer_blocks.0.attn2.to_k.weight"][1],
        magnifications=shapes.get("label_emb.weight", (0,))[0],
    )


def vq_sizes(shapes: Shapes) -> VqConfig:
    """Sizes of a VQ autoencoder from its tensors' shapes; KeyError if it is none."""
    codes, latent = shapes["quantize.embedding.weight"]
    width = shapes["encoder.conv_in.weight"][0]
    grids = _count(shapes, "encoder.down.{}.block.0.conv1.weight")
    outs = [shapes[f"encoder.down.{g}.block.0.conv1.weight"][0] for g in range(grids)]
    blocks = _count(shapes, "encoder.down.0.block.{}.conv1.weight")
    return VqConfig(latent, codes, width, tuple(out // width for out in outs), blocks)


def vit_summarizer_sizes(shapes: Shapes) -> VitSummarizerConfig:
    """Sizes of a transformer summarizer from its tensors' shapes; KeyError if it is none."""
    width, embedding_width = shapes["dim_reduce.weight"]
    hidden = shapes["encoder.layers.encoder_layer_0.mlp.0.weight"][0]
    return VitSummarizerConfig(
        embedding_width=embedding_width,
        width=width,
        depth=_count(shapes, "encoder.layers.encoder_layer_{}.ln_1.weight"),
        heads=max(1, width // HEAD),
        mlp_ratio=hidden // width,
        magnifications=shapes["mag_embedding.weight"][0],
    )


def vit_sizes(shapes: Shapes) -> VitConfig:
    """Sizes of a vision transformer from its tensors' shapes; KeyError if it is none."""
    width, _, patch, _ = shapes["patch_embed.proj.weight"]
    cells = math.isqrt(shapes["pos_embed"][1] - 1)
    return VitConfig(
        width=width,
        depth=_count(shapes, "blocks.{}.norm1.weight"),
        heads=max(1, width // HEAD),
        patch=patch,
        train_size=cells * patch,
        mlp_ratio=shapes["blocks.0.mlp.fc1.weight"][0] // width,
    )


def timm_sizes(shapes: Shapes) -> TimmVitConfig:
    """Sizes of timm's vision transformer from its tensors' shapes; KeyError if it is none."""
    plain = vit_sizes(shapes)
    sizes = (plain.width, plain.depth, plain.heads, plain.patch, plain.train_size)
    return TimmVitConfig(*sizes, plain.mlp_ratio)


def patch_summarizer_sizes(shapes: Shapes) -> PatchSummarizerConfig:
    """Sizes of Large-Image-Diffusion's condition from its tensors' shapes; KeyError if it is none.

    The checkpoint was trained at 20x alone.
    """
    width, embedding_width = shapes["patch_fc.weight"]
    return PatchSummarizerConfig(embedding_width, shapes["region_fc.weight"][1], width)


def _count(shapes: Shapes, template: str) -> int:
    """How many of a numbered name there are, from 0 on."""
    count = 0
    while template.format(count) in shapes:
        count += 1
    return count
