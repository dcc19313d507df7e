"""The networks of an imported or trained bundle of a published family, ready to draw."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.diffusion.guidance import guide_by_scale
from wsicodec.diffusion.trained_steps import Table, alpha_bars, square_root_linear
from wsicodec.errors import BundleError, ConfigError
from wsicodec.geometry import PATCH
from wsicodec.models.bundle import Bundle
from wsicodec.models.published import grids
from wsicodec.models.published.fused import lowered
from wsicodec.models.published.fused_unet import FusedUNet
from wsicodec.models.published.fused_vq import FusedVqDecoder
from wsicodec.models.published.loading import load_network
from wsicodec.models.published.patch_summarizer import PatchSummarizer
from wsicodec.models.published.static_unet import StaticUNet
from wsicodec.models.published.unet import LdmUNet
from wsicodec.models.published.vit_summarizer import VitSummarizer
from wsicodec.models.published.vq import VqAutoencoder

Networks = tuple[nn.Module, LdmUNet, VqAutoencoder]  # summarizer first
FAMILIES = ("uni-vit", "hipt-cnn", "hipt-patch")
CUDA_BATCH = 8  # patches per call where a card draws


class PublishedModel:
    """Summarizer, U-Net and autoencoder; patches of one magnification at a time.

    All in float32, except what a narrow fold draws with, see `fold`.
    """

    patch = PATCH  # pixels a side of what is drawn at once

    def __init__(
        self, networks: Networks, table: Table, normalise: Callable[[Tensor], Tensor]
    ) -> None:
        """Use networks at hand.

        Args:
            networks: summarizer, U-Net, autoencoder, all on one device.
            table: alpha-bar of every trained step.
            normalise: what embeddings (n, d, h, w) go through after pooling.
        """
        self.summarizer, self.unet, self.autoencoder = networks
        self.table = table
        self._normalise = normalise
        self.device = next(self.unet.parameters()).device
        self.batch = CUDA_BATCH if self.device.type == "cuda" else 1
        self._folded: FusedUNet | None = None
        self._static: StaticUNet | None = None
        self.pixels: Callable[[Tensor], Tensor] = self.autoencoder.decode
        self._decode = self.pixels

    def fold(self, kind: torch.dtype | None = None) -> None:
        """Draw with folded forms of the networks from now on; they must not be changed after it.

        Args:
            kind: draws with narrow copies of this type, on a card as CUDA graphs; what asks for
                exact answers, such as a finite difference, still gets them in float32.
        """
        decoder = FusedVqDecoder(self.autoencoder)
        self.pixels = self._decode = decoder
        if self.unet.config.heads == 1:  # as published
            self._folded = FusedUNet(self.unet)
        if kind is not None:
            self._decode = lowered(decoder, kind)
            self._static = None if self._folded is None else StaticUNet(self._folded, kind)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a patch's latent."""
        side = self.patch // self.autoencoder.factor
        return self.unet.config.latent_channels, side, side

    @property
    def magnifications(self) -> int:
        """How many it was trained on, from 20x on."""
        return int(self.summarizer.config.magnifications)  # type: ignore[union-attr, arg-type]

    @contextmanager
    def one_thread(self) -> Iterator[None]:
        """On the CPU, sums that do not depend on how many cores there are."""
        threads = torch.get_num_threads()
        if self.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            yield
        finally:
            if self.device.type == "cpu":
                torch.set_num_threads(threads)

    @torch.inference_mode()
    def context(self, window: NDArray[np.float32], magnification: int) -> Tensor:
        """The tokens (1, k, width) for embeddings (h, w, d) at a magnification, 0 for 20x."""
        grid = torch.from_numpy(np.ascontiguousarray(window.transpose(2, 0, 1)))[None]
        return self.summarize(grid.to(self.device), magnification)

    def contexts(self, windows: Sequence[NDArray[np.float32]], magnification: int) -> Tensor:
        """The tokens (n, k, width) for several windows of one magnification."""
        return torch.cat([self.context(window, magnification) for window in windows])

    def summarize(self, grid: Tensor, magnification: int) -> Tensor:
        """The tokens (n, k, width) for embeddings (n, d, h, w); gradients flow where asked for.

        Raises:
            ConfigError: a magnification that the model was not trained on.
        """
        if not 0 <= magnification < self.magnifications:
            raise ConfigError(
                f"expected a magnification index below {self.magnifications}, got "
                f"{magnification}: this model draws no coarser levels; keep a real picture of a "
                "finer one, with a preset other than semantic"
            )
        index = torch.full((len(grid),), magnification, device=self.device)
        if isinstance(self.summarizer, VitSummarizer):
            grid = grids.pool(grid)
        tokens: Tensor = self.summarizer(self._normalise(grid), index)
        return tokens

    def null(self, context: Tensor) -> Tensor:
        """The null condition of the same shape: zeros, before or after the summarizer."""
        if isinstance(self.summarizer, PatchSummarizer):
            return self.summarizer.null(len(context))
        return torch.zeros_like(context)

    def estimate(
        self, context: Tensor, magnification: int, scale: float, *, exact: bool = False
    ) -> Callable[[Tensor, int], Tensor]:
        """The guided noise estimate of contexts (n, k, width), for a solver of latents (n, ...).

        Args:
            context: tokens of `context`.
            magnification: for U-Nets that are told it beside the context.
            scale: s of eps_u + s (eps_c - eps_u); at 1 the unconditional half is not run.
            exact: in float32 whatever the fold.
        """
        with torch.inference_mode():
            contexts = context if scale == 1 else torch.cat((self.null(context), context))
            run = self._runner(contexts, magnification, exact=exact)

        @torch.inference_mode()
        def noise(x: Tensor, t: int) -> Tensor:
            if scale == 1:
                return run(x, t)
            without, told = run(torch.cat((x, x)), t).chunk(2)
            mixed: Tensor = guide_by_scale(without, told, scale)
            return mixed

        return noise

    def _runner(
        self, contexts: Tensor, magnification: int, *, exact: bool
    ) -> Callable[[Tensor, int], Tensor]:
        """The U-Net for contexts (n, k, width), folded once for all steps where it can be."""
        folded = self._folded
        if folded is None:
            return lambda x, t: self.noise(x, t, contexts, magnification)
        silent = int((contexts != 0).flatten(1).any(1).int().argmax())
        given = magnification if self.unet.config.magnifications > 0 else None
        if self._static is not None and not exact:
            static = self._static
            narrow = static.condition(contexts[silent:])
            return lambda x, t: static(x, t, given, narrow)
        told, kept = folded.condition(contexts[silent:]), folded
        index = None if given is None else torch.tensor([given], device=self.device)

        def run(x: Tensor, t: int) -> Tensor:
            times = kept.times(torch.tensor([t], device=self.device), index)
            found: Tensor = kept(x, times.expand(len(x), -1), told)
            return found

        return run

    def noise(self, x: Tensor, t: int, context: Tensor, magnification: int) -> Tensor:
        """The U-Net's noise (n, c, h, w) in latents at a trained step, without guidance."""
        told = self.unet.config.magnifications > 0
        index = torch.full((len(x),), magnification, device=self.device) if told else None
        steps = torch.full((len(x),), t, device=self.device)
        found: Tensor = self.unet(x, steps, context, index)
        return found

    def put(self, latent: NDArray[np.float32]) -> Tensor:
        """A latent or noise (c, h, w) as a tensor (1, c, h, w) where the networks are."""
        return self.put_all(latent[None])

    def put_all(self, latents: NDArray[np.float32]) -> Tensor:
        """Latents or noise (n, c, h, w) as a tensor where the networks are."""
        return torch.from_numpy(np.ascontiguousarray(latents)).to(self.device)

    @torch.inference_mode()
    def encode(self, rgb: NDArray[np.uint8]) -> Tensor:
        """Pixels (256, 256, 3) to the continuous latent (1, c, h, w)."""
        pixels = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32))[None]
        return self.autoencoder.encode(pixels.to(self.device) / 127.5 - 1)

    def decode(self, latent: Tensor) -> NDArray[np.uint8]:
        """A latent (1, c, h, w), quantised anew, to pixels; truncated to bytes as published."""
        drawn: NDArray[np.uint8] = self.decode_all(latent)[0]
        return drawn

    @torch.inference_mode()
    def decode_all(self, latents: Tensor) -> NDArray[np.uint8]:
        """Latents (n, c, h, w) to pixels (n, 256, 256, 3), as `decode` does."""
        return to_bytes(self._decode(latents))


def to_bytes(pixels: Tensor) -> NDArray[np.uint8]:
    """Pixels (n, 3, h, w) around [-1, 1] to bytes (n, h, w, 3), truncated as published."""
    scaled = ((pixels.float() + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)
    rgb: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().numpy(force=True)
    return rgb


def load_published(bundle: Bundle, device: str | torch.device = "cpu") -> PublishedModel:
    """The networks of a bundle of family "uni-vit", "hipt-cnn" or "hipt-patch".

    Raises:
        BundleError: another family, or parts missing or damaged.
    """
    if bundle.family not in FAMILIES:
        raise BundleError(
            f"expected a bundle of family {', '.join(FAMILIES)}, got {bundle.name} of family "
            f"{bundle.family}"
        )
    summarizer, unet, autoencoder = (
        load_network(bundle, part).to(device) for part in ("summarizer", "unet", "autoencoder")
    )
    settings: dict[str, Any] = bundle.config["schedule"]
    betas = square_root_linear(settings["length"], settings["first"], settings["last"])
    rule = str(bundle.config.get("normalisation"))
    normalise = grids.RULES.get(rule)
    if normalise is None:
        raise BundleError(
            f"expected one of {sorted(grids.RULES)} as normalisation of {bundle.name}, got {rule!r}"
        )
    model = PublishedModel((summarizer, unet, autoencoder), alpha_bars(betas), normalise)
    model.fold(torch.bfloat16 if model.device.type == "cuda" else None)
    return model
