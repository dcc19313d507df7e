"""What the stages of a slice share: pictures, networks, tables and the device."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.models.autoencoder import PixelShuffleAutoencoder
from wsicodec.models.blocks import channels_last
from wsicodec.models.renderer import Renderer, RendererConfig
from wsicodec.models.vit import VisionTransformer
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.train.autoencoder import AutoencoderTraining
from wsicodec.train.card.plan import Plan, StagePlan, overlaid
from wsicodec.train.card.tissue import PackedPicture
from wsicodec.train.card.variants import Makers, Variants
from wsicodec.train.checkpoint import part
from wsicodec.train.config import build
from wsicodec.train.distill import DistillTraining
from wsicodec.train.embedder import EmbedderTraining
from wsicodec.train.zoomldm import ZoomTraining

KINDS: dict[str, type[Any]] = {
    "embedder": EmbedderTraining,
    "autoencoder": AutoencoderTraining,
    "zoomldm": ZoomTraining,
    "distill": DistillTraining,
}
Weights = dict[str, Tensor]
M = TypeVar("M", bound=nn.Module)


@dataclass
class Deck:
    """Networks by group: embedder (all of it), autoencoder, zoomldm, renderer, critic; averages."""

    device: torch.device
    plan: Plan
    configs: dict[str, dict[str, Any]]  # of the stages, as packed
    pictures: list[PackedPicture]
    weights: dict[str, Weights]
    tables: EmbeddingTables
    scale: float  # what conditions are divided by

    def config(self, stage: StagePlan) -> Any:
        """A stage's configuration with the plan's settings laid over it."""
        return build(KINDS[stage.stage], overlaid(self.configs[stage.stage], stage.settings))

    def settled(self, stage: str) -> Any:
        """The configuration that a stage of this plan has, or else the packed one."""
        for planned in self.plan.stages:
            if planned.stage == stage:
                return self.config(planned)
        return build(KINDS[stage], self.configs[stage])

    def autocast(self) -> AbstractContextManager[Any]:
        """Reduced precision where the device is a card and the plan says so."""
        reduced = self.plan.precision == "bf16" and self.device.type == "cuda"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)

    def place(self, module: M, group: str, names: tuple[str, ...]) -> M:
        """A module on the device with a group's weights and the layers `names` kept exact."""
        if group not in self.weights:
            raise ConfigError(
                f"expected weights of {group} in the pack; name its run folder when you pack, "
                'or mark the stage "fresh"'
            )
        module.load_state_dict(self.weights[group])
        return self.ready(module, names)

    def ready(self, module: M, names: tuple[str, ...]) -> M:
        """A module on the device, channels last, with the layers `names` kept exact."""
        for name in names:
            keep_exact(module.get_submodule(name), self.device)
        return channels_last(module).to(self.device)

    def autoencoder(self) -> PixelShuffleAutoencoder:
        """The autoencoder as it stands, frozen."""
        model = PixelShuffleAutoencoder(self.settled("autoencoder").model)
        return self.place(model, "autoencoder", AUTOENCODER_EXACT).requires_grad_(
            requires_grad=False
        )

    def makers(self) -> Makers:
        """What makes latents and embeddings of variants."""
        autoencoder = self.autoencoder()
        embedder = VisionTransformer(self.settled("embedder").model)
        embedder.load_state_dict(part(self.weights["embedder"], "teacher."))
        embedder = embedder.to(self.device).eval()

        def encode(rgb: Tensor) -> Tensor:
            with self.autocast():
                return autoencoder.encode(rgb.contiguous(memory_format=torch.channels_last))

        channels = autoencoder.config.latent_channels
        width = embedder.config.embedding_width
        return Makers(encode, embedder, channels, width, self.tables, self.scale)

    def variants(self, number: int, makers: Makers | None = None) -> Variants:
        """The variants of round `number`; `makers` other than the deck's make them otherwise."""
        config = replace(self.settled("zoomldm").variants, count=self.plan.variants)
        return Variants(self.pictures, config, number, makers or self.makers())

    def noise(self, number: int) -> torch.Generator:
        """The random source on the device of batch `number`."""
        return torch.Generator(self.device).manual_seed((self.plan.seed << 40) + number)


AUTOENCODER_EXACT = ("encoder.linear", "encoder.last", "decoder.linear", "decoder.last")
ZOOMLDM_EXACT = ("guess", "unet.last")
RENDERER_EXACT = ("enlarge", "last")


def new_zoomldm(deck: Deck, config: ZoomTraining, *, fresh: bool) -> ZoomLDM:
    """The denoiser to train."""
    model = ZoomLDM(config.model)
    if fresh:
        return deck.ready(model, ZOOMLDM_EXACT)
    return deck.place(model, "zoomldm", ZOOMLDM_EXACT)


def new_renderer(deck: Deck, config: RendererConfig) -> Renderer:
    """The renderer to train: the packed one, or one that only enlarges."""
    model = Renderer(config)
    if "renderer" not in deck.weights:
        return deck.ready(model, RENDERER_EXACT)
    return deck.place(model, "renderer", RENDERER_EXACT)


def keep_exact(module: nn.Module, device: torch.device) -> None:
    """Run a layer in single precision whatever surrounds it: eight bits are too few for pixels."""
    inner = module.forward

    def forward(*given: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return inner(*(g.float() for g in given))

    module.forward = forward
