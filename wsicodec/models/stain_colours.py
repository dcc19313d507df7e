"""From an embedder's stain statistics back to the mean colour of a patch, in closed form.

Nothing here is learnt: the statistics were measured of the patch, and the embedding holds them.
`wsicodec.models.stain_statistics` is where they are measured.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.quantizer import FRACTION_BITS, EmbeddingTables
from wsicodec.models.bundle import Bundle

Floats = NDArray[np.float32]
CONTRAST = 5  # place among the statistics of the contrasts' mean and its two differences
CONTRAST_CENTRES = (-1.67, 0.0, 0.46)  # of training tissue
CONTRAST_SCALES = (0.64, 0.51, 0.25)
FLATTEST = 1e-2  # density that is added to a deviation
LEAST = 1e-3  # density; a mean or a deviation below it is taken for it


@dataclass(frozen=True, eq=False)
class StainColours:
    """Tells the mean colours of patches from the coefficients of their embeddings."""

    table: Floats  # (k + 1, 6): mean densities and log deviations, linear in coefficients and one
    digest: str  # SHA-256 in hex of what the table was made of

    def of(self, coefficients: Floats) -> Floats:
        """Mean RGB (..., 3), 8-bit, of coefficients (..., k) in steps of the codec."""
        told = coefficients @ self.table[:-1] + self.table[-1]
        return mean_colours(told[..., :3], np.exp(told[..., 3:]) - np.float32(FLATTEST))


def mean_colours(density: Floats, deviation: Floats) -> Floats:
    """Mean of 256 exp(-x) - 1 where x is gamma distributed, (1 + v / m) ** (-m^2 / v).

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


def load_stain_colours(bundle: Bundle) -> StainColours | None:
    """What the bundle's embeddings tell of colours; None if its embedder measures no stains."""
    if not bundle.config.get("embedder", {}).get("statistics"):
        return None
    tables = EmbeddingTables.from_tensors(bundle.tensors("codec.safetensors"))
    parts = bundle.tensors("embedder.safetensors")
    centre, scale = (parts[f"stains.{name}"].astype(np.float64) for name in ("centre", "scale"))
    one = tables.step / (1 << FRACTION_BITS)
    vectors = np.concatenate([tables.basis, tables.mean[None]])[:, -len(centre) :] * one
    measured = vectors @ np.linalg.pinv(scale).T
    measured[-1] += centre
    digest = hashlib.sha256(tables.fingerprint.encode() + centre.tobytes() + scale.tobytes())
    return StainColours(_densities(measured), digest.hexdigest())


def _densities(measured: NDArray[np.float64]) -> Floats:
    """Rows of mean densities and log deviations (n, 6) of rows of statistics (n, 14).

    The last row is what is added to the others.
    """
    contrasts = measured[:, CONTRAST : CONTRAST + 3] * CONTRAST_SCALES
    contrasts[-1] += CONTRAST_CENTRES
    whole, across, middle = contrasts.T
    green = whole + middle * (2 / 3)
    both = 3 * whole - green  # red and blue
    logs = [(both + across) / 2, green, (both - across) / 2]
    return np.stack([*measured[:, :3].T, *logs], axis=1).astype(np.float32)
