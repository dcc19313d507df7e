"""Measures of one picture against another, (h, w, 3) uint8 unless said otherwise."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

Pixels = NDArray[np.uint8]
OCTAVES = 3
LUMA = np.array([0.299, 0.587, 0.114])  # of R, G, B (ITU-R BT.601)
MS_SSIM_LEAST = 161  # pixels a side: eleven taps on the fifth scale


def _alike(true: Pixels, drawn: Pixels) -> None:
    if true.shape != drawn.shape or true.ndim != 3 or true.shape[2] != 3:
        raise ConfigError(
            f"expected two pictures (h, w, 3) of one size, got {true.shape} and {drawn.shape}"
        )


def psnr(true: Pixels, drawn: Pixels) -> float:
    """Peak signal-to-noise ratio, dB; 138 dB where nothing differs."""
    _alike(true, drawn)
    error = (drawn.astype(np.int16) - true).astype(np.float64).ravel()
    return float(10 * np.log10(255**2 / max(float(error @ error) / error.size, 1e-9)))


def ms_ssim(true: Pixels, drawn: Pixels, *, single: bool = False) -> float:
    """Multi-scale structural similarity of luma (Wang et al. 2003) by torchmetrics.

    single: in single precision, a tenth of the time; up to 2e-4 off on glass, 1e-5 on tissue.

    Raises ConfigError without the library, or for pictures below 161 px a side.
    """
    _alike(true, drawn)
    if min(true.shape[:2]) < MS_SSIM_LEAST:
        raise ConfigError(f"expected sides of at least {MS_SSIM_LEAST} px, got {true.shape[:2]}")
    try:
        import torch
        from torchmetrics.functional.image import (
            multiscale_structural_similarity_index_measure as measure,
        )
    except ImportError as error:
        raise ConfigError(f"MS-SSIM needs `pip install 'wsicodec[bench]'`: {error}") from error
    kind = np.float32 if single else np.float64
    a, b = (torch.from_numpy((p @ LUMA).astype(kind))[None, None] for p in (true, drawn))
    return float(measure(b, a, data_range=255.0))


Octaves = list[tuple[float, float]]


def octaves(rgb: Pixels) -> Octaves:
    """Energy and kurtosis of the finest box octaves of the grey picture, finest first."""
    found = []
    for band in _bands(rgb.astype(np.float64).mean(-1)):
        squares = np.square(band)
        energy = float(squares.mean())
        found.append((energy, float(np.square(squares).mean() / max(energy**2, 1e-12))))
    return found


def _bands(image: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The finest box octaves (h, w, ...) of an image (h, w, ...), finest first."""
    for _ in range(OCTAVES):
        h, w = (n // 2 * 2 for n in image.shape[:2])
        blocks = image[:h, :w].reshape(h // 2, 2, w // 2, 2, *image.shape[2:])
        coarse = blocks.mean((1, 3))
        yield image[:h, :w] - coarse.repeat(2, 0).repeat(2, 1)
        image = coarse


def octave_ratios(true: Pixels, drawn: Pixels) -> dict[str, float]:
    """Drawn over true: `energy_0` and `kurtosis_0` of the finest octave, `_1`, `_2` of coarser."""
    return ratios(octaves(true), octaves(drawn))


def ratios(true: Octaves, drawn: Octaves) -> dict[str, float]:
    """The same from what `octaves` gave."""
    row: dict[str, float] = {}
    for i, ((te, tk), (e, k)) in enumerate(zip(true, drawn, strict=True)):
        row |= {f"energy_{i}": e / max(te, 1e-9), f"kurtosis_{i}": k / max(tk, 1e-9)}
    return row


def chroma(rgb: Pixels) -> list[float]:
    """Energies of the finest box octaves of red and blue over green, finest first.

    Tissue has little detail in differences of colours; coloured flecks that grey hides have much.
    """
    red, green, blue = np.moveaxis(rgb.astype(np.float64), -1, 0)
    pair = np.stack([red - green, blue - green], -1)
    return [float(np.square(band).mean()) for band in _bands(pair)]


def chroma_ratios(true: Sequence[float], drawn: Sequence[float]) -> dict[str, float]:
    """Drawn over true of what `chroma` gave: `chroma_0` of the finest octave, `_1`, `_2`."""
    pairs = zip(true, drawn, strict=True)
    return {f"chroma_{i}": ours / max(theirs, 1e-9) for i, (theirs, ours) in enumerate(pairs)}


def block_colour_error(true: Pixels, drawn: Pixels, side: int = 64) -> float:
    """Median over blocks of how far their mean colours lie apart (Euclidean, of 255)."""
    _alike(true, drawn)
    a, b = (_block_means(p, side) for p in (true, drawn))
    return float(np.median(np.linalg.norm(a - b, axis=-1)))


def _block_means(rgb: Pixels, side: int) -> NDArray[np.float64]:
    rows, columns = rgb.shape[0] // side, rgb.shape[1] // side
    if rows * columns == 0:
        raise ConfigError(f"expected a picture of at least {side} px a side, got {rgb.shape[:2]}")
    whole = rgb[: rows * side, : columns * side].reshape(rows, side, columns, side, 3)
    return np.asarray(whole.sum((1, 3), dtype=np.uint32) / side**2)


def seam_score(rgb: Pixels, step: int) -> float:
    """Mean step across window borders over the mean step between all other neighbours.

    1 where borders cannot be seen. `step` is the side of a window in pixels; borders lie at its
    multiples.
    """
    borders, inside = [0.0, 0], [0.0, 0]
    for axis in (0, 1):
        if rgb.shape[axis] <= step:
            continue
        steps = np.abs(np.diff(rgb.astype(np.int16), axis=axis)).mean((1 - axis, 2))
        at = np.arange(1, len(steps) + 1) % step == 0
        for sums, chosen in ((borders, steps[at]), (inside, steps[~at])):
            sums[0] += float(chosen.sum())
            sums[1] += len(chosen)
    if borders[1] == 0:
        raise ConfigError(f"expected a picture longer than one window of {step} px: {rgb.shape}")
    return borders[0] / borders[1] / max(inside[0] / inside[1], 1e-9)


def cut_patches(rgb: Pixels, side: int, shift: int = 0) -> Pixels:
    """Whole squares (n, side, side, 3) of a grid that begins `shift` pixels down and right."""
    rows, columns = ((n - shift) // side for n in rgb.shape[:2])
    if rows <= 0 or columns <= 0:
        return np.empty((0, side, side, 3), np.uint8)
    whole = rgb[shift : shift + rows * side, shift : shift + columns * side]
    blocks = whole.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
    return np.ascontiguousarray(blocks.reshape(-1, side, side, 3))


def aligned_and_shifted(pictures: Sequence[Pixels], side: int) -> tuple[Pixels, Pixels]:
    """As many squares aligned with the windows as shifted by half a window, place by place.

    Seams show as a larger distance of the shifted ones, which have them in their middle.
    """
    aligned, shifted = [], []
    for rgb in pictures:
        off = cut_patches(rgb, side, side // 2)
        on = cut_patches(rgb[: rgb.shape[0] - side // 2, : rgb.shape[1] - side // 2], side)
        assert len(on) == len(off)
        aligned.append(on)
        shifted.append(off)
    return np.concatenate(aligned), np.concatenate(shifted)
