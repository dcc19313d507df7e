"""The embedding diffusion model as it runs: a small transformer over grids of embeddings, in NumPy.

Large slides spend their time on pixels, so the few windows of this network need no other runtime,
and every installation that can encode can sample. `wsicodec.train.edm_network` is its twin with
gradients, under the same tensor names.

A cell of octave o is a square of 2**o patches; a window of such cells is what ZoomLDM pools to
8 x 8 at magnification index o + 3. Its channels are the coverage, which is the share of tissue
taken to [-1, 1], and the whitened Karhunen-Loeve coefficients of the mean embedding.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import BundleError
from wsicodec.models.bundle import Bundle
from wsicodec.models.edm_config import TIMES, EdmConfig, shapes, time_angles

Floats = NDArray[np.float32]
PART = "edm.safetensors"
NORM_EPSILON = 1e-6
LONGEST = 32.0  # cells; quarter of the longest wave of the position code


def rotations(rows: int, columns: int, width: int) -> tuple[Floats, Floats]:
    """Cosines and sines (rows * columns, width / 2) of the rotary position code in two dimensions.

    The first half of the pairs turns with the row, the other with the column (Su et al. 2021,
    axial), so that attention sees differences of places only.

    width: of a head, a multiple of 4.
    """
    count = width // 4
    frequency = (math.pi / 2) * LONGEST ** (-np.arange(count) / count)
    y, x = (a.ravel()[:, None] for a in np.mgrid[:rows, :columns])
    angles = np.concatenate([y * frequency, x * frequency], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


@dataclass(frozen=True)
class EdmNetwork:
    """Weights of one model and their forward pass; estimates clean windows of cells."""

    config: EdmConfig
    weights: Mapping[str, Floats]
    digest: str = ""  # SHA-256 in hex of what it was read from

    @property
    def mean(self) -> Floats:
        """Mean coefficient (octaves, components), in units of the codec's step."""
        return self.weights["mean"]

    @property
    def deviation(self) -> Floats:
        """Deviation of coefficients (octaves, components), in units of the codec's step."""
        return self.weights["deviation"]

    def clean(
        self,
        x: Floats,
        t: float,
        phase: int,
        octave: int,
        parent: Floats | None,
        inside: NDArray[np.bool_],
    ) -> Floats:
        """The clean window expected behind x_t = (1 - t) z + t eps (Liu, Gong, Liu 2022).

        The network answers what a Gaussian of unit variance misses, in units of its deviation
        (the preconditioning of Karras et al. 2022 for this noise law).

        Args:
            x: (n, h, w, 1 + k); of phase OUTLINE only the coverage is noisy, the rest zero; of
                CONTENT the coverage is clean, and coefficients are zero where there is no tissue.
            t: time in (0, 1] of what is noisy.
            phase: OUTLINE or CONTENT.
            octave: of the cells.
            parent: (n, h, w, 1 + k) the octave above, each of its cells twice a side, or None.
            inside: (n, h, w), which cells belong to the slide.

        Returns:
            (n, h, w, 1 + k); the channels that are not noisy mean nothing.
        """
        n, rows, columns, _ = x.shape
        flag = np.full((n, rows, columns, 1), parent is not None, np.float32)
        above = np.zeros_like(x) if parent is None else parent
        given = np.concatenate([x, above, flag, inside[..., None].astype(np.float32)], axis=-1)
        tokens = self._linear("inputs", given.reshape(n, rows * columns, -1))
        told = self._told(t, phase, octave)
        turn = rotations(rows, columns, self.config.width // self.config.heads)
        for i in range(self.config.depth):
            tokens = self._block(f"blocks.{i}", tokens, told, turn)
        gain, shift = told[: 2 * self.config.width].reshape(2, -1) + self.weights["last"]
        out = self._linear("outputs", _norm(tokens) * (1 + gain) + shift)
        power = np.float32((1 - t) ** 2 + t**2)
        raw = out.reshape(n, rows, columns, -1)
        return np.float32((1 - t) / power) * x + np.float32(t / math.sqrt(power)) * raw

    def _told(self, t: float, phase: int, octave: int) -> Floats:
        """What every layer is told of time, phase and octave: six rows of `width`."""
        angles = np.float32(t) * time_angles()
        code = np.zeros(self.config.told, np.float32)
        code[: 2 * TIMES] = np.concatenate([np.sin(angles), np.cos(angles)])
        code[2 * TIMES + phase] = 1
        code[2 * TIMES + 2 + octave] = 1
        hidden = _silu(self._linear("time1", code))
        return self._linear("modulation", _silu(self._linear("time2", hidden)))

    def _block(self, name: str, x: Floats, told: Floats, turn: tuple[Floats, Floats]) -> Floats:
        table = told.reshape(6, -1) + self.weights[f"{name}.table"]
        gain1, shift1, gate1, gain2, shift2, gate2 = table
        x = x + gate1 * self._attention(name, _norm(x) * (1 + gain1) + shift1, turn)
        hidden = self._linear(f"{name}.fc1", _norm(x) * (1 + gain2) + shift2)
        hidden = np.square(np.maximum(hidden, 0))  # So et al. 2021
        return x + gate2 * self._linear(f"{name}.fc2", hidden)

    def _attention(self, name: str, x: Floats, turn: tuple[Floats, Floats]) -> Floats:
        n, tokens, width = x.shape
        heads = self.config.heads
        qkv = self._linear(f"{name}.qkv", x).reshape(n, tokens, 3, heads, width // heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        q, k = _rotate(q, *turn), _rotate(k, *turn)
        scores = (q * np.float32((width // heads) ** -0.5)) @ k.transpose(0, 1, 3, 2)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        return self._linear(f"{name}.proj", mixed.transpose(0, 2, 1, 3).reshape(n, tokens, width))

    def _linear(self, name: str, x: Floats) -> Floats:
        found: Floats = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return found


def _norm(x: Floats) -> Floats:
    """Root-mean-square norm without weights (Zhang, Sennrich 2019)."""
    scaled: Floats = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(NORM_EPSILON))
    return scaled


def _silu(x: Floats) -> Floats:
    return np.asarray(x / (1 + np.exp(-x)), np.float32)


def _rotate(x: Floats, cosines: Floats, sines: Floats) -> Floats:
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cosines - b * sines, a * sines + b * cosines], axis=-1)


def has_edm(bundle: Bundle) -> bool:
    """Whether a bundle has an embedding diffusion model."""
    return "edm" in bundle.config and PART in bundle.config["files"]


def load_edm(bundle: Bundle) -> EdmNetwork:
    """The bundle's embedding diffusion model; raises BundleError if it has none."""
    if not has_edm(bundle):
        raise BundleError(
            f"expected a bundle with an embedding diffusion model, but {bundle.name} has no "
            f"{PART}; take another bundle, or train the stage `edm` and add its run to this one"
        )
    config = EdmConfig.from_json(bundle.config["edm"])
    weights = checked(config, bundle.weights(PART))
    return EdmNetwork(config, weights, _digest(bundle, config))


def checked(config: EdmConfig, weights: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """The weights, if they are those of a model of these sizes; raises BundleError else."""
    wanted, found = shapes(config), {name: value.shape for name, value in weights.items()}
    if unlike := sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k)):
        name = unlike[0]
        raise BundleError(
            f"expected {PART} to hold {name} of shape {wanted.get(name)}, got {found.get(name)}; "
            "the bundle is damaged"
        )
    return weights


def _digest(bundle: Bundle, config: EdmConfig) -> str:
    told = json.dumps([config.to_json(), bundle.config["files"][PART]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
