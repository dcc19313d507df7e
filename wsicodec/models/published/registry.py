"""The published networks by part and family: their sizes, and networks of those sizes."""

from typing import Any

import torch
from torch import nn

from wsicodec.errors import ConfigError
from wsicodec.models.published.cnn_summarizer import CnnSummarizer, CnnSummarizerConfig
from wsicodec.models.published.patch_summarizer import PatchSummarizer, PatchSummarizerConfig
from wsicodec.models.published.timm_vit import TimmVit, TimmVitConfig
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig
from wsicodec.models.published.vit_summarizer import VitSummarizer, VitSummarizerConfig
from wsicodec.models.published.vq import VqAutoencoder, VqConfig
from wsicodec.models.vit import VisionTransformer, VitConfig

_SIZES: dict[tuple[str, str], Any] = {
    ("embedder", ""): VitConfig,
    ("summarizer", "uni-vit"): VitSummarizerConfig,
    ("summarizer", "hipt-cnn"): CnnSummarizerConfig,
    ("summarizer", "hipt-patch"): PatchSummarizerConfig,
    ("unet", ""): LdmUNetConfig,
    ("autoencoder", ""): VqConfig,
}


def sizes_of(part: str, family: str, record: dict[str, Any]) -> Any:
    """The configuration of a part of a bundle.

    Args:
        part: "embedder", "summarizer", "unet" or "autoencoder".
        family: of the bundle; the summarizer's design depends on it.
        record: the part's settings in `bundle.json`.

    Raises:
        ConfigError: no such part in that family, or unknown settings.
    """
    if part == "embedder" and record.get("design") == "timm":
        return TimmVitConfig.from_json(record)
    sizes = _SIZES.get((part, "")) or _SIZES.get((part, family))
    if sizes is None:
        raise ConfigError(f"expected a network of family {family}, got {part!r}")
    return sizes.from_json(record)


def build(config: Any) -> nn.Module:
    """The network that a configuration is of."""
    match config:
        case LdmUNetConfig():
            return LdmUNet(config)
        case VqConfig():
            return VqAutoencoder(config)
        case VitSummarizerConfig():
            return VitSummarizer(config)
        case CnnSummarizerConfig():
            return CnnSummarizer(config)
        case PatchSummarizerConfig():
            return PatchSummarizer(config)
        case TimmVitConfig():
            return TimmVit(config)
        case VitConfig():
            return VisionTransformer(config)
    raise ConfigError(f"expected the settings of a published network, got {config!r}")


def on_meta(config: Any) -> nn.Module:
    """The network without memory: names and shapes alone."""
    with torch.device("meta"):
        return build(config)


def expected_shapes(config: Any) -> dict[str, tuple[int, ...]]:
    """Every tensor's shape of the network with that configuration; takes no memory."""
    return {name: tuple(tensor.shape) for name, tensor in on_meta(config).state_dict().items()}
