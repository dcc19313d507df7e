"""Conditions that the embedding diffusion model makes up, as the denoiser is given real ones."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.quantizer import FRACTION_BITS, EmbeddingTables
from wsicodec.diffusion.windows import CELL
from wsicodec.geometry import PATCH
from wsicodec.models.edm import EdmNetwork
from wsicodec.models.edm_config import octave_of_magnification
from wsicodec.synthesis.grid import draw_octave, noise_key

Floats = NDArray[np.float32]
COVERED = 0.5  # share of a window's cells that is tissue, at least
ATTEMPTS = 64  # planes drawn before too little tissue is taken for none


def conditions(
    network: EdmNetwork,
    tables: EmbeddingTables,
    scale: float,
    mag_index: int,
    cells: int,
    count: int,
    seed: int,
) -> tuple[Floats, list[int]]:
    """Conditioning maps (n, d + 1, cells, cells) of windows with tissue, and the plane of each.

    Every plane is one window of the model, drawn without an octave above, as the seed paper draws
    a condition of any magnification at once.

    Args:
        network: draws planes.
        tables: of the embeddings' codec.
        scale: what embeddings are divided by.
        mag_index: of the windows, 0 for 20x to 7.
        cells: a side of a window, CELL pixels each.
        count: windows wanted; fewer come back if so many planes hold too little tissue.
        seed: another one gives other windows.
    """
    octave, side = octave_of_magnification(mag_index), network.config.window
    repeats = max(1, (PATCH // CELL) >> mag_index)  # conditioning cells per cell of a plane
    maps: list[Floats] = []
    planes: list[int] = []
    for number in range(ATTEMPTS):
        key = noise_key(seed, f"{network.digest} {mag_index} {number}")
        drawn = draw_octave(network, (side, side), octave, key, None)
        plane = _conditioning(drawn, network, tables, octave) / np.float32(scale)
        plane[..., -1] *= np.float32(scale)
        plane = plane.repeat(repeats, 0).repeat(repeats, 1)
        found = _windows(plane, cells)
        found = found[found[..., -1].mean((1, 2)) >= COVERED]
        order = np.random.default_rng(_number(key)).permutation(len(found))
        share = max(1, count // 4)  # of a plane at most: its windows are alike
        maps += list(found[order[:share]].transpose(0, 3, 1, 2))
        planes += [number] * min(share, len(found))
        if len(maps) >= count:
            break
    width = tables.width + 1
    whole = np.array(maps[:count], np.float32).reshape(-1, width, cells, cells)
    return np.ascontiguousarray(whole), planes[:count]


def _number(key: str) -> int:
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)


def _conditioning(
    drawn: Floats, network: EdmNetwork, tables: EmbeddingTables, octave: int
) -> Floats:
    """Mean embeddings times coverage, and coverage, (h, w, d + 1)."""
    coverage = (drawn[..., :1] + 1) / 2
    steps = drawn[..., 1:] * network.deviation[octave] + network.mean[octave]
    if octave == 0:
        steps = np.rint(steps)  # what a bitstream can carry
    sums = steps.astype(np.float64) @ tables.basis.astype(np.float64) + tables.mean
    vectors = (sums * (tables.step / (1 << FRACTION_BITS))).astype(np.float32)
    return np.concatenate([vectors * coverage, coverage], axis=-1)


def _windows(plane: Floats, cells: int) -> Floats:
    rows, columns = plane.shape[0] // cells, plane.shape[1] // cells
    blocks = plane[: rows * cells, : columns * cells].reshape(rows, cells, columns, cells, -1)
    return blocks.swapaxes(1, 2).reshape(rows * columns, cells, cells, -1)
