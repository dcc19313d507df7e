"""ZoomLDM in small: summarizer and U-Net as one denoiser of latents, any magnification.

    parent pixels -> unshuffle --+--> linear guess --> Gaussian posterior of the latent ----(+)-> z
    x_t -------------------------+--> U-Net(summary of the embeddings, t, dt, mag) * width --/

The posterior is what a Gaussian model would answer: latent channels around a linear guess from the
parent with a fixed deviation. The network learns what that misses, in units of the posterior's own
deviation, so that it starts as good as the upsampled parent and every t weighs alike.
"""

from dataclasses import dataclass, field
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.models.blocks import framed
from wsicodec.models.summarizer import Summarizer, SummarizerConfig
from wsicodec.models.unet import UNet, UNetConfig

PARENT = 4  # parent pixels per latent cell, a side


@dataclass(frozen=True, slots=True)
class ZoomLDMConfig:
    """Sizes of a ZoomLDM."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    summarizer: SummarizerConfig = field(default_factory=SummarizerConfig)

    def to_json(self) -> dict[str, Any]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return {"unet": self.unet.to_json(), "summarizer": self.summarizer.to_json()}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        return cls(
            UNetConfig.from_json(record["unet"]), SummarizerConfig.from_json(record["summarizer"])
        )


class ZoomLDM(nn.Module):
    """Predicts the clean latent of a rectified flow x_t = (1 - t) z + t eps (Liu et al. 2022)."""

    deviation: Tensor

    def __init__(self, config: ZoomLDMConfig) -> None:
        super().__init__()
        self.config = config
        self.summarizer = Summarizer(config.summarizer)
        self.unet = UNet(config.unet)
        channels = config.unet.latent_channels
        self.guess = framed(config.unet.parent_channels, channels)
        # Of a latent around the guess: row 0 without a parent, row 1 with one.
        self.register_buffer("deviation", torch.ones(2, channels))

    def posterior(
        self, x: Tensor, t: Tensor, unshuffled: Tensor, has_parent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean (n, c, h, w) and deviation (n, c, 1, 1) of the latent for a Gaussian model.

        With z ~ N(m, s^2) and x = (1 - t) z + t eps:  E[z | x] = m + k (x - (1 - t) m),
        k = (1 - t) s^2 / v, Var[z | x] = s^2 t^2 / v, v = (1 - t)^2 s^2 + t^2 (Bayes).
        """
        mean = self.guess(unshuffled) * has_parent[:, None, None, None]
        gain, deviation = self.gain(t, has_parent)
        return mean + gain * (x - (1 - t[:, None, None, None]) * mean), deviation

    def gain(self, t: Tensor, has_parent: Tensor) -> tuple[Tensor, Tensor]:
        """Gain k and the posterior's deviation, (n, c, 1, 1) each; see `posterior`."""
        time = t[:, None, None, None]
        spread = torch.lerp(self.deviation[:1], self.deviation[1:], has_parent[:, None])
        spread = spread[:, :, None, None]
        power = (1 - time).square() * spread.square() + time.square()
        return (1 - time) * spread.square() / power, spread * time * torch.rsqrt(power)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        dt: Tensor,
        parent: Tensor,
        has_parent: Tensor,
        cond: Tensor,
        mag: Tensor,
    ) -> Tensor:
        """Estimate the clean latent.

        Args:
            x: noisy latents (n, c, h, w), h and w multiples of 4.
            t: (n,) time in (0, 1].
            dt: (n,) step that the solver is about to take.
            parent: (n, 3, 4h, 4w) pixels of the level above in [-1, 1]; zeros where there is none.
            has_parent: (n,) 1 or 0.
            cond: (n, d + 1, h / 4, w / 4) conditioning map, see `diffusion.windows`.
            mag: (n,) magnification index 0..7.
        """
        return self.estimate(x, t, dt, parent, has_parent, cond, mag)[0]

    def estimate(
        self,
        x: Tensor,
        t: Tensor,
        dt: Tensor,
        parent: Tensor,
        has_parent: Tensor,
        cond: Tensor,
        mag: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`forward`, and the Gaussian posterior's deviation (n, c, 1, 1) that it is scaled by."""
        flag = has_parent[:, None, None, None]
        unshuffled = F.pixel_unshuffle(parent, PARENT) * flag
        mean, spread = self.posterior(x, t, unshuffled, has_parent)
        told = flag.expand(-1, 1, *x.shape[2:])
        modulation = self.unet.modulation(t, dt, has_parent, mag)
        inputs = torch.cat([x, unshuffled, told], 1)
        return mean + spread * self.unet(inputs, modulation, self.summarizer(cond, mag)), spread
