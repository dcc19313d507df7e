"""What a patch's stains measure, to stand beside what a network says of the patch.

A class token that was taught to tell tissue says little of small differences of tint, and they are
what tells one slide from another; a decoder wants them back, and how fine the tissue's detail is.
"""

import torch
from torch import Tensor, nn

from wsicodec.models.octaves import OCTAVES, octaves
from wsicodec.models.stain_colours import (
    CONTRAST_CENTRES,
    CONTRAST_SCALES,
    FAINTEST,
    FLATTEST,
)

CHANNELS = (0, 1)  # red, where haematoxylin absorbs, and green, where both stains do
TINT = 5  # two chromaticities and three contrasts
STATISTICS = 3 + TINT + OCTAVES * len(CHANNELS)
LEAST = 1e-6  # variance over the largest; what varies less is not told


class StainStatistics(nn.Module):
    """Mean densities, tint and octave energies of an image, whitened on training tissue."""

    centre: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(STATISTICS))
        self.register_buffer("scale", torch.eye(STATISTICS))

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, 3, h, w) in [-1, 1] to (n, STATISTICS)."""
        return (measured(images) - self.centre) @ self.scale.T

    @torch.no_grad()
    def fit(self, values: Tensor, deviation: float) -> None:
        """Give the principal components of measured values (n, STATISTICS) equal deviations."""
        values = values.double()
        variances, basis = torch.linalg.eigh(torch.cov(values.T))
        kept = variances > LEAST * variances[-1]
        weight = torch.where(kept, deviation / variances.clamp_min(1e-300).sqrt(), 0)
        self.centre.copy_(values.mean(0))
        self.scale.copy_((basis * weight).T)


def measured(images: Tensor) -> Tensor:
    """Mean density of each channel, tint, and log octave energies: (n, STATISTICS).

    images: (n, 3, h, w) in [-1, 1].
    """
    density = optical_density(images)
    energies = [d.mean((2, 3)) for d in octave_energies(density[:, CHANNELS])]
    logs = [energy.add(FAINTEST).log() for energy in energies]
    return torch.cat([density.mean((2, 3)), tint(density), *logs], 1)


def optical_density(images: Tensor) -> Tensor:
    """Natural optical density of images in [-1, 1]; black is finite."""
    return -torch.log((images + 1) / 2 * (255 / 256) + 1 / 256)


def octave_energies(density: Tensor) -> list[Tensor]:
    """Squared detail of each of the finest octaves (n, c, h / 2^i, w / 2^i), finest first."""
    return [detail.square() for detail in octaves(density)]


def tint(density: Tensor) -> Tensor:
    """Chromaticities and contrasts (n, TINT) of optical densities (n, 3, h, w).

    Chromaticities are ratios of mean densities, so they tell the stains' hue whatever their amount
    (van der Laak et al. 2000). Contrasts: log deviations of the channels, as their mean and two
    differences. Centres and scales are those of training tissue.
    """
    red, green, blue = density.mean((2, 3)).unbind(1)
    grey = (red + green + blue) / 3
    hue = [
        ((red - blue) / (grey + 0.1) + 0.13) / 0.32,
        ((green - grey) / (grey + 0.1) - 0.35) / 0.11,
    ]
    red, green, blue = (density.flatten(2).std(2) + FLATTEST).log().unbind(1)
    contrast = (red + green + blue) / 3, red - blue, green - (red + blue) / 2
    scaled = zip(contrast, CONTRAST_CENTRES, CONTRAST_SCALES, strict=True)
    return torch.stack([*hue, *((value - centre) / scale for value, centre, scale in scaled)], 1)
