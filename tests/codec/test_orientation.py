"""A transposed or flipped grid would decode into plausible, wrong tissue: pin down the way up."""

from pathlib import Path

import numpy as np
import zarr

import wsicodec
from wsicodec.geometry import PATCH
from wsicodec.models.bundle import load_bundle
from wsicodec.models.networks import load_embedder

ROWS, COLUMNS = 3, 4


def _asymmetric() -> np.ndarray:
    """Every patch has its own colour and grain: lighter to the right, redder downwards."""
    rng = np.random.default_rng(0)
    rows = []
    for y in range(ROWS):
        row = []
        for x in range(COLUMNS):
            base = np.array([120 + 40 * y, 70 + 25 * x, 150 - 10 * y + 15 * x])
            grain = rng.normal(0, 4 + 8 * (x + y), (PATCH // 4, PATCH // 4, 3))
            row.append(base + grain.repeat(4, 0).repeat(4, 1))
        rows.append(np.concatenate(row, 1))
    return np.clip(np.concatenate(rows), 0, 255).astype(np.uint8)


def test_embeddings_lie_in_rows_as_the_patches_do(tmp_path: Path) -> None:
    slide = _asymmetric()
    wsicodec.encode(slide, tmp_path / "s.zarr", mpp=0.5)
    stored = np.asarray(zarr.open_group(tmp_path / "s.zarr", mode="r")["embeddings"])
    patches = slide.reshape(ROWS, PATCH, COLUMNS, PATCH, 3).swapaxes(1, 2)
    embed = load_embedder(load_bundle())
    true = embed(patches.reshape(-1, PATCH, PATCH, 3)).reshape(ROWS, COLUMNS, -1)

    def error(grid: np.ndarray) -> float:
        return float(np.square(stored - grid).sum())

    for wrong in (true[::-1], true[:, ::-1], true[::-1, ::-1]):
        assert error(true) < 0.7 * error(wrong)


def test_pixels_lie_where_the_slide_has_them(tmp_path: Path) -> None:
    slide = _asymmetric()
    wsicodec.encode(slide, tmp_path / "s.zarr", mpp=0.5)
    shown = np.asarray(zarr.open_group(tmp_path / "s.zarr", mode="r")["0"]).astype(float)

    def error(image: np.ndarray) -> float:
        return float(np.square(shown - image).mean())

    for wrong in (slide[::-1], slide[:, ::-1], slide[::-1, ::-1]):
        assert error(slide) < 0.5 * error(wrong)
