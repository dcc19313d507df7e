"""Classifier-free guidance in the two forms that published code uses (Ho & Salimans 2022).

The same mixture with two meanings of its number: a *scale* s counts from the unconditional
estimate, a *weight* w from the conditional one, and s = w + 1. No number here is called just
"guidance".
"""

from typing import Any

Latent = Any  # a NumPy array or a torch tensor: only arithmetic is asked of it


def guide_by_scale(unconditional: Latent, conditional: Latent, scale: float) -> Latent:
    """eps_u + s (eps_c - eps_u), as in ZoomLDM's patch sampling; s = 1 is the conditional one."""
    return unconditional + scale * (conditional - unconditional)


def guide_by_weight(unconditional: Latent, conditional: Latent, weight: float) -> Latent:
    """(1 + w) eps_c - w eps_u, as in ZoomLDM's large images; w = 0 is the conditional one."""
    return (1 + weight) * conditional - weight * unconditional


def scale_of_weight(weight: float) -> float:
    """The scale that mixes as this weight does."""
    return weight + 1
