"""Parents of a whole batch as `train.parents` makes them one by one, and level 1 drawn anew.

A pack holds no anchors of level 1: of parents `stored` there the true pixels are shown, blurred and
with noise. Level 2 is not drawn anew, so `drawn_anchor` goes to the anchors that there are.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.diffusion.tensors import lock_colours
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.renderer import Renderer
from wsicodec.models.sketch import SMOOTH
from wsicodec.models.zoomldm import ZoomLDM
from wsicodec.train.card.bank import Where, send
from wsicodec.train.card.draws import Windows
from wsicodec.train.card.pixels import blocks_of, blur, double, to_bytes
from wsicodec.train.card.tissue import Squares
from wsicodec.train.card.variants import BLOCK, MARGIN, Variants, batches
from wsicodec.train.parents import EDGE, SOFT, ParentConfig
from wsicodec.train.variants import ANCHOR

LEVEL = ANCHOR - 1  # what is drawn anew
FAINT_BLUR = 0.2  # pixels; less than this is none


def draw_parents(
    rng: np.random.Generator, noise: torch.Generator, variants: Variants, windows: Windows,
    config: ParentConfig,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """What the level above shows under each window, and whether there is one.

    rng: for what is chosen; noise: on the device, for grain
    returns: (n, 3, side / 2, side / 2) in [-1, 1], zeros where there is none, and (n,) 1 or 0
    """
    count, device = len(windows.place), variants.device
    missing, plain, mixed, amount, drawn = rng.random((5, count))
    strength = rng.random((2, count)) ** 2
    blurred, grainy = strength * [[config.blur], [config.noise]]
    rare = np.where(windows.level < ANCHOR, config.none, config.none_coarse)
    above = windows.level + 1
    squares = Squares.of(
        Windows(windows.place, above, windows.y // 2, windows.x // 2, windows.side // 2), device
    )
    has_coded = variants.has_coded[windows.place]
    is_plain = plain < config.plain
    is_coded = ~is_plain & has_coded & (above == ANCHOR)
    under = ~is_plain & has_coded & (above == LEVEL)
    is_drawn = under & variants.is_drawn[windows.place] & (drawn < config.drawn)
    is_stored = under & ~is_drawn & (drawn >= 1 - config.stored)
    is_mixed = under & ~is_drawn & ~is_stored & (mixed < config.blend)
    is_sketched = ~is_plain & (above > ANCHOR) & (drawn < config.sketched)
    spoilt = ~(is_plain | is_coded | is_drawn | is_sketched)

    def told(values: NDArray[Any]) -> Tensor:
        return send(values.astype(np.float32), device)[:, None, None, None]

    parent = variants.rgb(squares).float()
    anchors = _at(variants.coded, variants, squares).float()
    parent = torch.where(told(is_coded) > 0, anchors, parent)
    if variants.is_drawn.any():
        earlier = _at(variants.drawn, variants, squares).float()
        parent = torch.where(told(is_drawn) > 0, earlier, parent)
    parent = torch.lerp(parent, _enlarged(variants, squares), told(is_mixed * amount))
    deviation = np.where(spoilt & (blurred > FAINT_BLUR), blurred, 0)
    parent = blur(parent, send(deviation.astype(np.float32), device))
    grain = torch.randn(parent.shape, generator=noise, device=device)
    parent = (parent + grain * told(grainy * spoilt)).clamp(0, 255)
    if is_sketched.any():
        sketch = sketched(parent, told(np.sqrt(strength[0]) * config.grain), noise)
        parent = torch.where(told(is_sketched) > 0, sketch, parent)
    known = told(missing >= rare)
    return parent.div(127.5).sub(1) * known, known.flatten()


def sketched(parent: Tensor, amplitude: Tensor, noise: torch.Generator) -> Tensor:
    """Colours of coarse squares and grain, see `train.parents`; before what else spoils it."""
    colours = F.avg_pool2d(parent, 1 << SMOOTH)
    for _ in range(SMOOTH):
        colours = double(colours)
    shape = (len(parent), 1, *parent.shape[2:])
    grain = torch.randn(shape, generator=noise, device=parent.device)
    grain = blur(grain, torch.full((len(parent),), SOFT, device=parent.device))
    grain = grain / grain.std((1, 2, 3), keepdim=True)
    return (colours + grain * amplitude).clamp(0, 255)


def _at(planes: Tensor, variants: Variants, squares: Squares) -> Tensor:
    where = Where(planes[squares.place], squares.y, squares.x)
    return variants.pixels.gather(where, squares.side)


def _enlarged(variants: Variants, squares: Squares) -> Tensor:
    """The coded anchor under squares of level ANCHOR - 1, enlarged; elsewhere it is moot."""
    where = Where(variants.coded[squares.place], squares.y // 2 - EDGE, squares.x // 2 - EDGE)
    coarse = variants.pixels.gather(where, squares.side // 2 + 2 * EDGE).float()
    return double(coarse)[:, :, 2 * EDGE : -2 * EDGE, 2 * EDGE : -2 * EDGE]


@torch.no_grad()
def redraw(
    variants: Variants, zoomldm: ZoomLDM, renderer: Renderer, noise: torch.Generator
) -> None:
    """Draw level 1 of every variant in one step from its anchor, as stage `redraw` does."""
    rows = []
    for place, (coded, drawn) in enumerate(
        zip(variants.coded.tolist(), variants.drawn.tolist(), strict=True)
    ):
        spot = variants.spots[place]
        if coded < 0 or spot.mag_index > 0:
            continue
        enlarged = double(variants.pixels.plane(coded).permute(2, 0, 1)[None].float())
        plane = variants.pixels.plane(drawn)
        plane.copy_(to_bytes(enlarged)[0])
        height, width = plane.shape[:2]
        corners = [(int(y), int(x)) for y, x in blocks_of(height, width, BLOCK)]
        rows += [(place, y, x) for y, x in corners if spot.tissue_in(LEVEL, y, x, BLOCK) >= 0.01]
    for part in batches(rows):
        place, y, x = part.to(variants.device).T
        squares = Squares(
            place, torch.full_like(place, LEVEL), y - MARGIN, x - MARGIN, BLOCK + 2 * MARGIN
        )
        drawn_part = _draw(variants, squares, zoomldm, renderer, noise)
        inner = to_bytes(drawn_part[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]).permute(0, 3, 1, 2)
        variants.pixels.put(Where(variants.drawn[place], y, x), inner)
    variants.is_drawn = variants.has_coded & (variants.mags == 0)


def _draw(
    variants: Variants, squares: Squares, zoomldm: ZoomLDM, renderer: Renderer,
    noise: torch.Generator,
) -> Tensor:  # fmt: skip
    side = squares.side
    where = Where(variants.coded[squares.place], squares.y // 2, squares.x // 2)
    parent = variants.pixels.gather(where, side // 2).float()
    count, device = len(squares.place), variants.device
    one = torch.ones(count, device=device)
    shape = (count, renderer.config.latent_channels, side // FACTOR, side // FACTOR)
    start = torch.randn(shape, generator=noise, device=device)
    mag = torch.full((count,), LEVEL, device=device)  # only pictures whose level 0 is the finest
    above = parent.div(127.5).sub(1)
    latent = zoomldm(start, one, one, above, one, variants.conditions(squares), mag)
    rgb = renderer(latent, above, one, mag).float()
    return lock_colours(rgb.add(1).mul(127.5).clamp(0, 255), parent, one)
