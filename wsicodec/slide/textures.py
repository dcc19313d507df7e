"""Macro-tiles of drawn tissue: how much haematoxylin and eosin every pixel holds.

A macro-tile wraps around, and all variants of a kind share what lies near their border, so that
any may stand beside any. One pixel is 0.5 µm: a nucleus is 14 to 22 pixels across, a gland 200.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Rng = np.random.Generator

MACRO = 1024  # pixels; side of a macro-tile
SHARED = 96  # pixels; width of the border that all variants of a kind share
STAIN_MAX = 2.6  # optical density (natural logarithm) that 255 stands for
KINDS = ("stroma", "gland", "lymphoid", "tumour")


@dataclass(frozen=True)
class Nuclei:
    """How the nuclei of a kind look; lengths in pixels, densities in optical density."""

    spacing: int
    radius: tuple[float, float]
    stretch: tuple[float, float]
    density: tuple[float, float]
    keep: float = 1.0


STROMAL = Nuclei(64, (4.0, 5.5), (1.8, 3.2), (0.9, 1.4), 0.75)
LYMPHOCYTE = Nuclei(17, (5.5, 7.5), (1.0, 1.15), (1.3, 1.9), 0.95)
TUMOURAL = Nuclei(30, (8.0, 12.5), (1.05, 1.5), (0.7, 1.25), 0.9)
EPITHELIAL = Nuclei(12, (5.5, 7.0), (1.4, 2.0), (1.0, 1.5))


class Canvas:
    """The two stains of one macro-tile, and noise that agrees along the borders of its variants.

    seed: of the slide.
    kind: index into KINDS.
    variant: which one of the kind.
    """

    def __init__(self, seed: int, kind: int, variant: int) -> None:
        self._shared = np.random.default_rng((seed, kind, 0))
        self._own = np.random.default_rng((seed, kind, 1, variant))
        self._near, self._far = _border_weights()
        self.haematoxylin: Field = np.zeros((MACRO, MACRO), np.float32)
        self.eosin: Field = np.zeros((MACRO, MACRO), np.float32)

    def noise(self, wave: float) -> Field:
        """Wrapping Gaussian noise of unit variance; wave: its length in pixels."""
        return self._mixed(*self._pair(wave, wave))

    def strands(self, wave_y: float, wave_x: float, bend_y: Field, bend_x: Field) -> Field:
        """Noise drawn out by wave_y and wave_x pixels and displaced by two fields in pixels."""
        shared, own = self._pair(wave_y, wave_x)
        # Displaced before they are mixed: a place near the border then reads shared noise only.
        return self._mixed(_warp(shared, bend_y, bend_x), _warp(own, bend_y, bend_x))

    def _pair(self, wave_y: float, wave_x: float) -> tuple[Field, Field]:
        shape = (MACRO, MACRO)
        return (
            wrapped_noise(self._shared, shape, wave_y, wave_x),
            wrapped_noise(self._own, shape, wave_y, wave_x),
        )

    def _mixed(self, shared: Field, own: Field) -> Field:
        return np.asarray(self._near * shared + self._far * own, np.float32)

    def cells(self, spacing: int, numbers: int) -> NDArray[np.float64]:
        """Random numbers for a grid of places: (n, y, x, 0..1 ...) with jittered positions."""
        count = MACRO // spacing
        shared = self._shared.random((count, count, numbers + 2))
        own = self._own.random((count, count, numbers + 2))
        edge = -(-SHARED // spacing)
        inner = slice(edge, count - edge)
        shared[inner, inner] = own[inner, inner]
        step = MACRO / count
        shared[..., 0] = (np.arange(count)[:, None] + 0.15 + 0.7 * shared[..., 0]) * step
        shared[..., 1] = (np.arange(count)[None, :] + 0.15 + 0.7 * shared[..., 1]) * step
        return shared.reshape(-1, numbers + 2)

    def scatter(
        self, nuclei: Nuclei, angle: Field | None = None, where: Field | None = None
    ) -> None:
        """Put nuclei on a jittered grid.

        angle: direction in radians that they lie along; random if None.
        where: nuclei only where it is above one half.
        """
        for y, x, keep, size, stretch, turn, dark in self.cells(nuclei.spacing, 5):
            cell = (int(y) % MACRO, int(x) % MACRO)
            if keep > nuclei.keep or (where is not None and where[cell] < 0.5):
                continue
            along = turn * np.pi if angle is None else float(angle[cell]) + (turn - 0.5) * 0.5
            self.nucleus(nuclei, y, x, along, (size, stretch, dark))

    def nucleus(
        self, nuclei: Nuclei, y: float, x: float, along: float, chance: tuple[float, float, float]
    ) -> None:
        """One nucleus at (y, x), its long axis along `along`; `chance` picks within the ranges."""
        size, stretch, dark = chance
        short = _between(nuclei.radius, size)
        long = short * _between(nuclei.stretch, stretch)
        reach = int(long) + 3
        offset = np.arange(-reach, reach + 1, dtype=np.float32)
        dy, dx = (offset - (y % 1))[:, None], (offset - (x % 1))[None, :]
        u = (dx * np.cos(along) + dy * np.sin(along)) / long
        v = (dy * np.cos(along) - dx * np.sin(along)) / short
        distance = np.sqrt(u * u + v * v)
        body = np.clip((1.0 - distance) * short / 1.5 + 0.5, 0, 1)
        rim = np.exp(-(((distance - 0.85) / 0.16) ** 2))
        stain = body * _between(nuclei.density, dark) * (0.8 + 0.35 * rim)
        rows = (np.arange(-reach, reach + 1) + int(y)) % MACRO
        columns = (np.arange(-reach, reach + 1) + int(x)) % MACRO
        at = np.ix_(rows, columns)
        self.haematoxylin[at] = np.maximum(self.haematoxylin[at], stain)


def draw_macro_tile(seed: int, kind: int, variant: int) -> NDArray[np.uint8]:
    """Draw one macro-tile: (2, MACRO, MACRO), haematoxylin then eosin; 255 is STAIN_MAX."""
    canvas = Canvas(seed, kind, variant)
    _DRAW[KINDS[kind]](canvas)
    clumps = 1 + 0.22 * canvas.noise(2.5)
    canvas.haematoxylin *= np.clip(clumps, 0.5, 1.5)
    canvas.eosin *= 1 + 0.06 * canvas.noise(1.5)
    stains = np.stack([canvas.haematoxylin, canvas.eosin]) * (255 / STAIN_MAX)
    return np.asarray(np.clip(stains + 0.5, 0, 255), np.uint8)


def _fibres(canvas: Canvas) -> Field:
    """Wavy collagen; returns the direction in which it runs, radians."""
    bend_y, bend_x = 55 * canvas.noise(260), 25 * canvas.noise(200)
    bend_y += 5 * canvas.noise(50)
    strands = canvas.strands(4, 45, bend_y, bend_x)
    bundles = canvas.strands(26, 170, bend_y, bend_x)
    gaps = np.clip((bundles - 1.35) * 1.8, 0, 1) * np.clip(0.6 + 0.5 * strands, 0, 1)
    depth = 0.44 + 0.07 * strands + 0.08 * bundles + 0.04 * canvas.noise(7)
    canvas.eosin += depth.clip(0.15, 1.0) * (1 - 0.85 * gaps)
    canvas.haematoxylin += 0.06 + 0.02 * strands.clip(-1, 2)
    slope = -np.gradient(bend_y, axis=1) / (1 + np.abs(np.gradient(bend_y, axis=0)))
    return np.asarray(np.arctan(slope), np.float32)


def _stroma(canvas: Canvas) -> None:
    canvas.scatter(STROMAL, _fibres(canvas))


def _lymphoid(canvas: Canvas) -> None:
    canvas.eosin += 0.22 + 0.05 * canvas.noise(20)
    canvas.haematoxylin += 0.12 + 0.03 * canvas.noise(9)
    canvas.scatter(LYMPHOCYTE)


def _tumour(canvas: Canvas) -> None:
    nests = canvas.noise(70)
    angle = _fibres(canvas)
    nest = np.clip((nests + 0.75) * 6, 0, 1)
    cytoplasm = 0.36 + 0.07 * canvas.noise(14) + 0.05 * canvas.noise(4)
    canvas.eosin += nest * (cytoplasm - canvas.eosin)
    canvas.haematoxylin += nest * (0.2 + 0.05 * canvas.noise(10) - canvas.haematoxylin)
    canvas.scatter(TUMOURAL, None, nest)
    canvas.scatter(STROMAL, angle, 1 - nest)


def _gland(canvas: Canvas) -> None:
    angle = _fibres(canvas)
    outside = np.ones((MACRO, MACRO), np.float32)
    glands = canvas.cells(MACRO // 4, 12)
    for gland in glands:
        _one_gland(canvas, outside, gland)
    canvas.scatter(STROMAL, angle, outside)


def _one_gland(canvas: Canvas, outside: Field, numbers: NDArray[np.float64]) -> None:
    """A ring of cells around a lumen; `numbers` in 0..1 give its size, shape and nuclei."""
    y, x, size, wall, lumen, *shape = numbers
    radius, thick = 58 + 55 * size, 26 + 10 * wall
    reach = int(radius * 1.45)
    offset = np.arange(-reach, reach + 1, dtype=np.float32)
    angle = np.arctan2(offset[:, None], offset[None, :])
    outline = radius * _wobble(angle, shape)
    inward = outline - np.hypot(offset[:, None], offset[None, :])
    inside = np.clip(inward / 2 + 0.5, 0, 1)
    hollow = np.clip((inward - thick) / 4 + 0.5, 0, 1)
    at = np.ix_((offset.astype(int) + int(y)) % MACRO, (offset.astype(int) + int(x)) % MACRO)
    eosin = (0.40 + 0.12 * np.cos(inward / thick * np.pi)) * (1 - hollow) + 0.1 * lumen * hollow
    violet = (0.16 + 0.1 * (inward < 0.55 * thick)) * (1 - hollow)
    canvas.eosin[at] += inside * (eosin - canvas.eosin[at])
    canvas.haematoxylin[at] += inside * (violet - canvas.haematoxylin[at])
    outside[at] = np.minimum(outside[at], 1 - inside)
    count = int(2 * np.pi * radius / EPITHELIAL.spacing)
    for i in range(count):
        turn = 2 * np.pi * (i + 0.3 * np.sin(7.3 * i + shape[0] * 40)) / count
        jitter = np.abs(np.sin(12.9 * i + 78.2 * shape[1])), np.abs(np.sin(4.1 * i + 9 * shape[2]))
        deep = (
            float(radius * _wobble(np.float32(turn), shape))
            - 9
            - (8 if i % 3 == 0 else 3) * jitter[0]
        )
        ny, nx = y + deep * np.sin(turn), x + deep * np.cos(turn)
        canvas.nucleus(EPITHELIAL, ny, nx, turn, (jitter[0], jitter[1], jitter[0]))


def _wobble(angle: Field | np.float32, shape: list[float]) -> Field:
    waves = sum(
        (0.13 / k) * np.sin(k * angle + 6.28 * phase)
        for k, phase in zip((2, 3, 5), shape, strict=False)
    )
    return np.asarray(1 + waves, np.float32)


_DRAW: dict[str, Callable[[Canvas], None]] = {
    "stroma": _stroma,
    "gland": _gland,
    "lymphoid": _lymphoid,
    "tumour": _tumour,
}


def wrapped_noise(rng: Rng, shape: tuple[int, int], wave_y: float, wave_x: float) -> Field:
    """Gaussian noise of unit variance that wraps around, smooth over wave_y by wave_x pixels."""
    by_y, by_x = _coarsening(shape[0], wave_y), _coarsening(shape[1], wave_x)
    coarse = (shape[0] // by_y, shape[1] // by_x)
    spectrum = np.fft.rfft2(rng.standard_normal(coarse, np.float32))
    fy = np.fft.fftfreq(coarse[0]).astype(np.float32)[:, None] * np.float32(wave_y / by_y)
    fx = np.fft.rfftfreq(coarse[1]).astype(np.float32)[None, :] * np.float32(wave_x / by_x)
    spectrum *= np.exp(-3.0 * (fy * fy)) * np.exp(-3.0 * (fx * fx))
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, coarse)
    field /= max(float(field.std()), 1e-9)
    if by_y > 1:
        field = _stretching(coarse[0], by_y) @ field
    if by_x > 1:
        field = field @ _stretching(coarse[1], by_x).T
    return np.asarray(field, np.float32)


def _coarsening(size: int, wave: float) -> int:
    """How much coarser an axis may be sampled, as a straight line joins the samples again."""
    return next(by for by in (8, 4, 2, 1) if size % by == 0 and (wave >= 7 * by or by == 1))


def _stretching(count: int, by: int) -> Field:
    """The matrix that samples a wrapping axis `by` times finer, linearly."""
    matrix = np.zeros((count * by, count), np.float32)
    at = np.arange(count * by)
    share = np.asarray(at % by / by, np.float32)
    matrix[at, at // by] = 1 - share
    matrix[at, (at // by + 1) % count] += share
    return matrix


def _warp(field: Field, by_y: Field, by_x: Field) -> Field:
    """Read a wrapping field at displaced places, bilinearly."""
    y = np.arange(MACRO, dtype=np.float32)[:, None] + by_y
    x = np.arange(MACRO, dtype=np.float32)[None, :] + by_x
    y0, x0 = np.floor(y), np.floor(x)
    fy, fx = y - y0, x - x0
    iy, ix = y0.astype(np.int32) % MACRO, x0.astype(np.int32) % MACRO
    jy, jx = (iy + 1) % MACRO, (ix + 1) % MACRO
    flat, iy, jy = field.ravel(), iy * MACRO, jy * MACRO
    upper = flat[iy + ix] * (1 - fx) + flat[iy + jx] * fx
    lower = flat[jy + ix] * (1 - fx) + flat[jy + jx] * fx
    return np.asarray(upper * (1 - fy) + lower * fy, np.float32)


def _border_weights() -> tuple[Field, Field]:
    """Cosine and sine of an angle that rises smoothly from the border of a macro-tile inwards."""
    i = np.arange(MACRO, dtype=np.float32)
    near = np.minimum(i, MACRO - 1 - i)
    ramp = np.clip((near - SHARED) / SHARED, 0, 1)
    ramp = ramp * ramp * (3 - 2 * ramp)
    angle = (ramp[:, None] * ramp[None, :]) * np.float32(np.pi / 2)
    return np.asarray(np.cos(angle), np.float32), np.asarray(np.sin(angle), np.float32)


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share
