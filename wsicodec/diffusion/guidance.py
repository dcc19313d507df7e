"""Classifier-free guidance in the two forms that published code uses (Ho & Salimans 2022).

The same mixture with two meanings of its number: a *scale* s counts from the unconditional
estimate, a *weight* w from the conditional one, and s = w + 1. No number here is called just
"guidance".
"""

from collections.abc import Mapping
from typing import Any

from wsicodec.errors import ConfigError

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


def scale_of_settings(settings: Mapping[str, Any]) -> float:
    """The scale that settings ask for, as `guidance_scale` or as `guidance_weight`.

    Raises:
        ConfigError: none or both of the two, or a number without a convention.
    """
    given = {name: settings[name] for name in settings if name.startswith("guidance")}
    match given:
        case {"guidance_scale": float() | int() as scale} if len(given) == 1:
            return float(scale)
        case {"guidance_weight": float() | int() as weight} if len(given) == 1:
            return scale_of_weight(float(weight))
    raise ConfigError(
        "expected guidance_scale, s in eps_u + s (eps_c - eps_u), or guidance_weight, w in "
        f"(1 + w) eps_c - w eps_u, and not both; got {given}"
    )
