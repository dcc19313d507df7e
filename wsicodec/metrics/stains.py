"""Stain vectors of H&E tissue (Macenko et al. 2009) and how far two pictures' lie apart."""

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float64]
GLASS = 0.15  # optical density below which a pixel holds no stain
LEAST = 64  # stained pixels
EDGE = 1.0  # percentile of angles that stands for a pure stain


def optical_density(rgb: Pixels) -> NDArray[np.float64]:
    """Natural optical density per channel, of light 255.5 through nothing."""
    return np.asarray(-np.log((rgb.astype(np.float64) + 0.5) / 255.5))


def stain_vectors(rgb: Pixels) -> Vectors:
    """Unit optical densities (2, 3) in R, G, B of haematoxylin, then eosin.

    In the plane of the two strongest directions, the extreme angles of stained pixels (Macenko
    et al. 2009, section 2.1); haematoxylin is the one that takes more red.

    Raises:
        ConfigError: fewer than 64 stained pixels.
    """
    density = optical_density(rgb).reshape(-1, 3)
    stained = density[(density > GLASS).all(1)]
    if len(stained) < LEAST:
        raise ConfigError(f"expected at least {LEAST} stained pixels, got {len(stained)}")
    plane = np.linalg.eigh(np.cov(stained.T))[1][:, [2, 1]]
    plane *= np.where(plane.sum(0) < 0, -1, 1)
    angles = np.arctan2(stained @ plane[:, 1], stained @ plane[:, 0])
    ends = np.percentile(angles, [EDGE, 100 - EDGE])
    vectors = np.array([plane @ (np.cos(a), np.sin(a)) for a in ends])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors if vectors[0, 0] > vectors[1, 0] else vectors[::-1].copy()


def stain_error(true: Pixels, drawn: Pixels) -> float:
    """Mean angle in degrees between the stain vectors of two pictures."""
    return stain_angle(stain_vectors(true), stain_vectors(drawn))


def stain_angle(true: Vectors, drawn: Vectors) -> float:
    """Mean angle in degrees between two pairs of stain vectors."""
    cosines = (true * drawn).sum(1)
    return float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())
