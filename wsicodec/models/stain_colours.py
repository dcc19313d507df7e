"""From an embedder's stain statistics back to the colours of a patch, in closed form.

Nothing here is learnt: the statistics were measured of the patch, and the embedding holds them.
`wsicodec.models.stain_statistics` is where they are measured.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.models.bundle import Bundle

Floats = NDArray[np.float32]
CONTRAST = 5  # place among the statistics of the contrasts' mean and its two differences
CONTRAST_CENTRES = (-1.67, 0.0, 0.46)  # of training tissue
CONTRAST_SCALES = (0.64, 0.51, 0.25)
ENERGIES = 8  # place of the first log energy of an octave
FAINTEST = 1e-4  # squared density that is added to an octave's energy
FLATTEST = 1e-2  # density that is added to a deviation
LEAST = 1e-3  # density; a mean or a deviation below it is taken for it


@dataclass(frozen=True, eq=False)
class StainColours:
    """Tells the colours of patches from their embeddings."""

    centre: Floats  # (s,) of the statistics
    inverse: Floats  # (s, s), of whitening
    digest: str  # SHA-256 in hex of what both were made of

    def of(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Mean RGB, 8-bit, and its deviation beyond the finest octaves, each (..., 3).

        vectors: (..., d) embeddings, the statistics last.
        """
        measured = vectors[..., -len(self.centre) :] @ self.inverse + self.centre
        density, deviation = measured[..., :3], deviations(measured)
        mean = mean_colours(density, deviation)
        rest = coarse_deviations(deviation, np.exp(measured[..., ENERGIES:]) - FAINTEST)
        return mean, (mean + 1) * rest  # a colour changes by -(colour + 1) for one of density


def mean_colours(density: Floats, deviation: Floats) -> Floats:
    """Mean of 256 exp(-x) - 1 where x is gamma distributed: 256 (1 + v / m) ** (-m^2 / v) - 1.

    Densities are positive and skewed, as gamma variables are; the colour of the mean density alone
    would be too dark (Jensen 1906).

    Args:
        density: mean m of x.
        deviation: square root of its variance v.
    """
    mean = np.maximum(density, np.float32(LEAST))
    variance = np.square(np.maximum(deviation, np.float32(LEAST)))
    through = np.exp(-np.square(mean) / variance * np.log1p(variance / mean))
    return np.asarray(256 * through - 1, np.float32)


def deviations(measured: Floats) -> Floats:
    """Deviations (..., 3) of the densities of red, green and blue, from statistics (..., s)."""
    contrasts = measured[..., CONTRAST:ENERGIES] * CONTRAST_SCALES + CONTRAST_CENTRES
    whole, across, middle = np.moveaxis(contrasts, -1, 0)
    green = whole + middle * (2 / 3)
    both = 3 * whole - green  # red and blue
    logs = np.stack([(both + across) / 2, green, (both - across) / 2], axis=-1)
    return np.asarray(np.exp(logs) - FLATTEST, np.float32)


def coarse_deviations(deviation: Floats, energies: Floats) -> Floats:
    """Deviations (..., 3) of densities that lie beyond the finest octaves.

    Octaves are orthogonal, so variances add up. Blue has no energies of its own; it is taken to lie
    as fine as red and green do.

    Args:
        deviation: (..., 3) of the densities of red, green and blue.
        energies: (..., 2 * octaves) of the finest octaves, red and green in turn.
    """
    whole = np.square(np.maximum(deviation, np.float32(LEAST)))
    fine = energies.reshape(*energies.shape[:-1], -1, 2).sum(-2)
    shares = np.clip(1 - fine / whole[..., :2], 0, 1)
    blue = shares.mean(-1, keepdims=True)
    return np.asarray(np.sqrt(whole * np.concatenate([shares, blue], -1)), np.float32)


def load_stain_colours(bundle: Bundle) -> StainColours | None:
    """What the bundle's embeddings tell of colours; None if its embedder measures no stains."""
    if not bundle.config.get("embedder", {}).get("statistics"):
        return None
    parts = bundle.tensors("embedder.safetensors")
    centre, scale = (parts[f"stains.{name}"].astype(np.float64) for name in ("centre", "scale"))
    digest = hashlib.sha256(centre.tobytes() + scale.tobytes()).hexdigest()
    inverse = np.linalg.pinv(scale).T
    return StainColours(centre.astype(np.float32), inverse.astype(np.float32), digest)
