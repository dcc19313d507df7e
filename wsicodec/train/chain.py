"""Whole chains on real fields: what training chooses checkpoints by.

A field's level ANCHOR goes through the anchor's codec, then every finer level is drawn from the
one above, and compared with the truth: error, octave energies and their kurtosis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from wsicodec.diffusion.windows import conditioning_map, lock_colour
from wsicodec.geometry import Region
from wsicodec.metrics.pictures import chroma, chroma_ratios, octave_ratios, psnr
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.renderer import Renderer
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.resample import box_reduce, double
from wsicodec.train.data import Pixels, generator
from wsicodec.train.variants import ANCHOR, anchor_quality, code_anchor
from wsicodec.train.zoomldm import Grid, draw, render

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Field:
    """A square of level 0, its side a multiple of 256, with the embeddings under it."""

    name: str
    rgb: Pixels
    grid: Grid | None
    mag_index: int = 0


@dataclass(frozen=True)
class Networks:
    """What draws."""

    zoomldm: ZoomLDM
    renderer: Renderer


def true_levels(rgb: Pixels) -> list[Pixels]:
    """Levels 0 to ANCHOR of a field."""
    levels = [rgb]
    for _ in range(ANCHOR):
        levels.append(box_reduce(levels[-1], 2))
    return levels


def draw_chain(field: Field, networks: Networks, steps: int, bpp: float) -> list[Pixels]:
    """Levels 0 to ANCHOR as decoded: the last one coded, the finer ones drawn."""
    return draw_below(field, networks, steps, coded_anchor(field, bpp))


def draw_below(field: Field, networks: Networks, steps: int, anchor: Pixels) -> list[Pixels]:
    """The same from a coded level ANCHOR."""
    levels = [anchor]
    for level in reversed(range(ANCHOR)):
        levels.insert(0, draw_level(field, networks, levels[0], level, steps))
    return levels


@torch.no_grad()
def draw_level(field: Field, networks: Networks, parent: Pixels, level: int, steps: int) -> Pixels:
    """One level from the one above it, as a single window."""
    height, width = parent.shape[0] * 2, parent.shape[1] * 2
    channels = networks.renderer.config.latent_channels
    rng = generator(level, sum(map(ord, field.name)))
    noise = rng.standard_normal((channels, height // FACTOR, width // FACTOR), np.float32)
    d = networks.zoomldm.config.summarizer.embedding_width
    cond = np.zeros((d + 1, height // 32, width // 32), np.float32)
    if field.grid is not None:
        region = Region(0, 0, height, width)
        cond = conditioning_map(field.grid.vectors, field.grid.valid, (0, 0), region, level)
    batch = {
        "noise": torch.from_numpy(noise)[None],
        "parent": torch.from_numpy(parent.transpose(2, 0, 1).copy())[None].float() / 127.5 - 1,
        "has_parent": torch.ones(1),
        "cond": torch.from_numpy(cond)[None],
        "mag": torch.tensor([field.mag_index + level]),
    }
    latent = draw(networks.zoomldm, batch, steps)
    rgb = render(networks.renderer, batch, latent)[0]
    drawn = ((rgb + 1) * 127.5).permute(1, 2, 0).numpy()
    drawn = lock_colour(np.clip(drawn, 0, 255), parent.astype(np.float32))
    return np.clip(np.floor(drawn + 0.5), 0, 255).astype(np.uint8)


def enlarge(rgb: Pixels, times: int) -> Pixels:
    """Bicubic enlargement by 2 ** times."""
    image = rgb.astype(np.float32)
    for _ in range(times):
        image = double(image)
    return np.clip(np.floor(image + 0.5), 0, 255).astype(np.uint8)


def compare(ours: Pixels, true: Pixels) -> dict[str, float]:
    """PSNR, and per octave the ratios of energy, kurtosis and chroma to the truth's."""
    colours = chroma_ratios(chroma(true), chroma(ours))
    return {"psnr": psnr(true, ours), **octave_ratios(true, ours), **colours}


def coded_anchor(field: Field, bpp: float) -> Pixels:
    """Level ANCHOR of a field after the anchor's codec; `bpp` is of level-0 pixels."""
    rgb = true_levels(field.rgb)[ANCHOR]
    return code_anchor(rgb, anchor_quality(rgb, 1.0, bpp))


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Column medians."""
    return {k: float(np.median([r[k] for r in rows])) for k in rows[0]}


def measure(
    fields: Sequence[Field], networks: Networks, steps: Sequence[int], bpp: float
) -> list[dict[str, float]]:
    """One row of medians per level and step count; 0 steps is the enlarged anchor."""
    rows: dict[tuple[int, int], list[dict[str, float]]] = {}
    for field in fields:
        true = true_levels(field.rgb)
        anchor = coded_anchor(field, bpp)
        for level in range(ANCHOR):
            rows.setdefault((level, 0), []).append(
                compare(enlarge(anchor, ANCHOR - level), true[level])
            )
        for count in steps:
            drawn = draw_below(field, networks, count, anchor)
            for level in range(ANCHOR):
                rows.setdefault((level, count), []).append(compare(drawn[level], true[level]))
    return [{"level": k[0], "steps": k[1], **medians(v)} for k, v in sorted(rows.items())]
