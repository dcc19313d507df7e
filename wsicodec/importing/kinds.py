"""Which published checkpoint a set of tensors is, and which of them go into which part.

| kind | what it is | recognised by |
|---|---|---|
| `hipt-vit256` | HIPT's first stage, `vit256_small_dino.pth` | a vision transformer, DINO's |
| `uni` | UNI, or a transformer of its design and size | timm's names, with LayerScale |
| `zoomldm` | the CVPR 2025 release | U-Net, VQ-f4, summarizer over 64 slots |
| `large-image-diffusion` | `brca_hipt_20x`, HIPT at 20x | U-Net, VQ-f4, two projections |
| `cin256-v2` | CompVis' ImageNet model, to train from | U-Net, VQ-f4, a class table |
| `vq-f4` | CompVis' autoencoder, to train from | the autoencoder alone |

Sampling uses the running mean of the U-Net where the file has one; the summarizer has none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wsicodec.errors import BundleError
from wsicodec.importing import sizes
from wsicodec.models.published.patch_summarizer import PatchSummarizerConfig
from wsicodec.models.published.registry import expected_shapes
from wsicodec.models.published.timm_vit import TimmVitConfig
from wsicodec.models.published.unet import LdmUNetConfig
from wsicodec.models.published.vit_summarizer import VitSummarizerConfig
from wsicodec.models.published.vq import VqConfig
from wsicodec.models.vit import VitConfig

Shapes = Mapping[str, tuple[int, ...]]
UNET, FIRST_STAGE, CONDITION = "model.diffusion_model.", "first_stage_model.", "cond_stage_model."
EMA = "model_ema."
DINO_HEAD = {f"head.mlp.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")} | {
    "head.last_layer.weight_g",
    "head.last_layer.weight_v",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a checkpoint: our file, our tensor names, and theirs."""

    name: str  # "embedder", "unet", "autoencoder" or "summarizer"
    config: Any
    tensors: dict[str, str]  # ours -> the checkpoint's
    title: str  # for messages


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A recognised checkpoint."""

    kind: str
    parts: tuple[Part, ...]
    ignored: tuple[str, ...]  # tensors that nothing here needs
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def published_sizes(self) -> bool:
        """Whether every network has the published sizes, but for embeddings and magnifications."""
        return all(_published(part.config) for part in self.parts)


def recognise(shapes: Shapes) -> Checkpoint:
    """Say which checkpoint has tensors of these names and shapes.

    Raises:
        BundleError: none that is known, one with tensors missing or misshaped, or one with tensors
            where there should be none.
    """
    if any(name.startswith(UNET) for name in shapes):
        return _latent_diffusion(shapes)
    if "quantize.embedding.weight" in shapes:
        return _autoencoder(shapes)
    plain = {_stripped(name): name for name in shapes}
    if len(plain) < len(shapes):
        raise BundleError("expected one set of tensors, got the same names with and without prefix")
    if {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= plain.keys():
        return _vision_transformer(shapes, plain)
    some = ", ".join(sorted(shapes)[:3])
    raise BundleError(
        f"expected HIPT's ViT-256, a ZoomLDM release, CompVis cin256-v2 or VQ-f4; none has tensors "
        f"such as {some}"
    )


def _vision_transformer(shapes: Shapes, plain: Mapping[str, str]) -> Checkpoint:
    here = {ours: shapes[theirs] for ours, theirs in plain.items()}
    timm = "blocks.0.ls1.gamma" in here
    build = sizes.timm_sizes if timm else sizes.vit_sizes
    config = _sized(build, here, "a vision transformer")
    part = _part("embedder", config, plain, here, "vision transformer")
    ignored = plain.keys() - part.tensors.keys()
    if strange := sorted(ignored - DINO_HEAD):
        raise BundleError(
            f"a vision transformer of {'UNI' if timm else 'HIPT'}'s design has no {strange[0]!r} "
            f"({len(strange)} tensors too many); other designs are not imported, but their "
            "embeddings can be taken as ready features"
        )
    return Checkpoint("uni" if timm else "hipt-vit256", (part,), tuple(sorted(ignored)))


def _autoencoder(shapes: Shapes) -> Checkpoint:
    kept = {name: name for name in shapes if not name.startswith("loss.")}
    part = _whole("autoencoder", sizes.vq_sizes, kept, shapes, "VQ autoencoder")
    ignored = tuple(sorted(shapes.keys() - kept.keys()))
    return Checkpoint("vq-f4", (part,), ignored)


def _latent_diffusion(shapes: Shapes) -> Checkpoint:
    condition = _below(shapes, CONDITION)
    raw = _below(shapes, UNET)
    averaged = {ours: _ema_name(theirs) for ours, theirs in raw.items()}
    has_average = any(name.startswith(EMA) for name in shapes)
    if has_average and (lost := sorted(set(averaged.values()) - shapes.keys())):
        raise BundleError(f"the U-Net's running mean is incomplete: {len(lost)} tensors missing")
    unet = averaged if has_average else raw
    first = {k: v for k, v in _below(shapes, FIRST_STAGE).items() if not k.startswith("loss.")}
    parts = [
        _whole("unet", sizes.unet_sizes, unet, shapes, "U-Net"),
        _whole("autoencoder", sizes.vq_sizes, first, shapes, "VQ autoencoder"),
    ]
    kind = "cin256-v2"
    if "dim_reduce.weight" in condition:
        kind = "zoomldm"
        renamed = {_current(ours): theirs for ours, theirs in condition.items()}
        build = sizes.vit_summarizer_sizes
        parts.append(_whole("summarizer", build, renamed, shapes, "summarizer"))
    elif "region_fc.weight" in condition:
        kind = "large-image-diffusion"
        parts.append(
            _whole("summarizer", sizes.patch_summarizer_sizes, condition, shapes, "condition")
        )
    elif set(condition) != {"embedding.weight"}:
        some = ", ".join(sorted(condition)[:3]) or "none"
        raise BundleError(
            "this is a latent-diffusion checkpoint whose conditioning is not known here: expected "
            "ZoomLDM's summarizer, the two projections of Large-Image-Diffusion's brca_hipt_20x, "
            f"or cin256-v2's class table, got {some}"
        )
    used = {theirs for part in parts for theirs in part.tensors.values()}
    facts = {"unet_weights": "running mean" if has_average else "last step"}
    return Checkpoint(kind, tuple(parts), tuple(sorted(shapes.keys() - used)), facts)


def _whole(
    name: str,
    read_sizes: Callable[[Shapes], Any],
    names: Mapping[str, str],
    shapes: Shapes,
    title: str,
) -> Part:
    """A part that must account for every tensor of `names`."""
    here = {ours: shapes[theirs] for ours, theirs in names.items()}
    part = _part(name, _sized(read_sizes, here, f"a {title}"), names, here, title)
    if strange := sorted(names.keys() - part.tensors.keys()):
        raise BundleError(f"the {title} has {len(strange)} tensors too many, such as {strange[0]}")
    return part


def _part(name: str, config: Any, names: Mapping[str, str], here: Shapes, title: str) -> Part:
    expected = expected_shapes(config)
    missing = sorted(expected.keys() - here.keys())
    if missing:
        raise BundleError(
            f"the {title} is incomplete: {len(missing)} of {len(expected)} tensors are missing, "
            f"such as {missing[0]}; fetch the file again"
        )
    for ours, shape in expected.items():
        if here[ours] != shape:
            raise BundleError(f"expected {ours} of the {title} as {shape}, got {here[ours]}")
    return Part(name, config, {ours: names[ours] for ours in expected}, title)


def _published(config: Any) -> bool:
    match config:
        case LdmUNetConfig():
            return config == LdmUNetConfig()
        case VqConfig():
            return config == VqConfig()
        case VitSummarizerConfig(embedding_width=width, magnifications=magnifications):
            return config == VitSummarizerConfig(width, magnifications=magnifications)
        case PatchSummarizerConfig():
            return config == PatchSummarizerConfig()
        case TimmVitConfig():
            return config == TimmVitConfig()
    return bool(config == VitConfig())


def _sized(read_sizes: Callable[[Shapes], Any], here: Shapes, title: str) -> Any:
    try:
        return read_sizes(here)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise BundleError(f"expected {title}; its shapes do not make sense at {error}") from error


def _below(shapes: Shapes, prefix: str) -> dict[str, str]:
    return {name.removeprefix(prefix): name for name in shapes if name.startswith(prefix)}


def _stripped(name: str) -> str:
    return name.removeprefix("module.").removeprefix("backbone.")


def _ema_name(name: str) -> str:
    """The published name of a tensor's running mean: all dots but the first one gone."""
    return EMA + name.removeprefix("model.").replace(".", "")


def _current(name: str) -> str:
    """The summarizer's names before torchvision 0.13 to those after."""
    return name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")
