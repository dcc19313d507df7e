"""The networks of an imported or trained bundle of a published family, ready to draw."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from wsicodec.diffusion.guidance import guide_by_scale
from wsicodec.diffusion.trained_steps import Table, alpha_bars, square_root_linear
from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle
from wsicodec.models.published import grids
from wsicodec.models.published.registry import on_meta, sizes_of
from wsicodec.models.published.unet import LdmUNet
from wsicodec.models.published.vit_summarizer import VitSummarizer
from wsicodec.models.published.vq import VqAutoencoder

Networks = tuple[nn.Module, LdmUNet, VqAutoencoder]  # summarizer first


class PublishedModel:
    """Summarizer, U-Net and autoencoder; one patch at a time, in float32."""

    def __init__(
        self, networks: Networks, table: Table, normalise: Callable[[Tensor], Tensor]
    ) -> None:
        """Use networks at hand.

        Args:
            networks: summarizer, U-Net, autoencoder, all on one device.
            table: alpha-bar of every trained step.
            normalise: what embeddings (1, d, h, w) go through after pooling.
        """
        self.summarizer, self.unet, self.autoencoder = networks
        self.table = table
        self._normalise = normalise
        self._device = next(self.unet.parameters()).device

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a patch's latent."""
        side = 256 // self.autoencoder.factor
        return self.unet.config.latent_channels, side, side

    @torch.inference_mode()
    def context(self, window: NDArray[np.float32], magnification: int) -> Tensor:
        """The tokens (1, k, width) for embeddings (h, w, d) at a magnification, 0 for 20x."""
        grid = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))[None]
        index = torch.tensor([magnification], device=self._device)
        if isinstance(self.summarizer, VitSummarizer):
            grid = grids.pool(grid)
        tokens: Tensor = self.summarizer(self._normalise(grid.to(self._device)), index)
        return tokens

    def estimate(
        self, context: Tensor, magnification: int, scale: float
    ) -> Callable[[Tensor, int], Tensor]:
        """The guided noise estimate of a context, for a solver.

        Args:
            context: tokens of `context`; the null condition is zeros in their place.
            magnification: for U-Nets that are told it beside the context.
            scale: s of eps_u + s (eps_c - eps_u); at 1 the unconditional half is not run.
        """
        told = self.unet.config.magnifications > 0
        contexts = context if scale == 1 else torch.cat((torch.zeros_like(context), context))
        count = len(contexts)
        index = torch.full((count,), magnification, device=self._device) if told else None

        @torch.inference_mode()
        def noise(x: Tensor, t: int) -> Tensor:
            steps = torch.full((count,), t, device=self._device)
            both: Tensor = self.unet(x.expand(count, -1, -1, -1), steps, contexts, index)
            return both if scale == 1 else guide_by_scale(both[:1], both[1:], scale)

        return noise

    def put(self, latent: NDArray[np.float32]) -> Tensor:
        """A latent or noise (c, h, w) as a tensor (1, c, h, w) where the networks are."""
        return torch.from_numpy(np.ascontiguousarray(latent))[None].to(self._device)

    @torch.inference_mode()
    def encode(self, rgb: NDArray[np.uint8]) -> Tensor:
        """Pixels (256, 256, 3) to the continuous latent (1, c, h, w)."""
        pixels = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))[None]
        return self.autoencoder.encode(pixels.to(self._device) / 127.5 - 1)

    @torch.inference_mode()
    def decode(self, latent: Tensor) -> NDArray[np.uint8]:
        """A latent (1, c, h, w), quantised anew, to pixels; truncated to bytes as published."""
        pixels = self.autoencoder.decode(latent)[0].permute(1, 2, 0)
        scaled: NDArray[np.uint8] = (
            ((pixels + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8).numpy(force=True)
        )
        return scaled


def load_published(bundle: Bundle, device: str | torch.device = "cpu") -> PublishedModel:
    """The networks of a bundle of family "uni-vit" or "hipt-cnn".

    Raises:
        BundleError: another family, or parts missing or damaged.
    """
    if bundle.family not in ("uni-vit", "hipt-cnn"):
        raise BundleError(
            f"expected a bundle of family uni-vit or hipt-cnn, got {bundle.name} of family "
            f"{bundle.family}"
        )
    summarizer, unet, autoencoder = (
        load_network(bundle, part).to(device) for part in ("summarizer", "unet", "autoencoder")
    )
    settings = bundle.config["schedule"]
    betas = square_root_linear(settings["length"], settings["first"], settings["last"])
    rule = str(bundle.config.get("normalisation"))
    normalise = grids.RULES.get(rule)
    if normalise is None:
        raise BundleError(
            f"expected one of {sorted(grids.RULES)} as normalisation of {bundle.name}, got {rule!r}"
        )
    return PublishedModel((summarizer, unet, autoencoder), alpha_bars(betas), normalise)


def load_network(bundle: Bundle, part: str) -> Any:
    """One network of a bundle of a published family: "embedder", "unet" and so on.

    Weights are mapped from their file, not copied, once the file's digest is right.
    """
    path = bundle.check(f"{part}.safetensors")
    network: Any = on_meta(sizes_of(part, bundle.family, bundle.config[part]))
    try:
        network.load_state_dict(load_file(path), strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise BundleError(f"{part} of bundle {bundle.name} does not fit: {reason}") from error
    return network.eval().requires_grad_(requires_grad=False)
