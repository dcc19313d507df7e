"""The small family's networks for drawing on a card: the same function with fewer launches.

Weights are narrow and channels last, counts of channels multiples of eight. What a time, a step, a
magnification and the presence of a parent tell the blocks is a table, made once: eight
magnifications, with and without a parent, for every step of the way. The linear ways from the
parent to the latent and to the pixels stay in float32: they carry the picture's colours, which
bfloat16 would round to a grey level.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec import ops
from wsicodec.geometry import LEVELS
from wsicodec.models.blocks import ResBlock
from wsicodec.models.renderer import Renderer
from wsicodec.models.zoomldm import PARENT, ZoomLDM

Kernel = tuple[Tensor, Tensor]  # weight and bias of a convolution
LANES = 8  # a multiple of this many channels is what tensor cores load at a time


class Step(NamedTuple):
    """One evaluation on the way from noise: x' = keep x + gain z_hat (see `diffusion.sampler`)."""

    t: float
    step: float  # that the solver takes
    keep: float
    gain: float


class Told(NamedTuple):
    """What a batch of windows shares between its evaluations."""

    kind: Tensor  # (n,) row of the tables: magnification, plus LEVELS with a parent
    has_parent: Tensor  # (n,) 1 or 0, float32
    above: Tensor  # (n, 3, 4h, 4w) parent in [-1, 1], zero without one, float32
    unshuffled: Tensor  # (n, 48, h, w) the same by latent cells, float32
    cond: Tensor  # (n, cond, h / 4, w / 4) summary of the embeddings, narrow


def lanes(channels: int) -> int:
    """Channels rounded up to whole lanes."""
    return -(-channels // LANES) * LANES


def _kernel(conv: nn.Conv2d, kind: torch.dtype, inputs: int = 0) -> Kernel:
    """Weight and bias of a convolution, its inputs padded with zeros to a number of channels."""
    assert conv.bias is not None
    weight = conv.weight.detach()
    weight = F.pad(weight, (0, 0, 0, 0, 0, max(0, inputs - weight.shape[1])))
    narrow = weight.to(kind).contiguous(memory_format=torch.channels_last)
    return narrow, conv.bias.detach().to(kind)


class _Block:
    """`blocks.ResBlock`, what modulates it given."""

    def __init__(self, block: ResBlock, kind: torch.dtype) -> None:
        self.gain = block.norm.weight.detach().to(kind)
        self.first, self.last = _kernel(block.conv1, kind), _kernel(block.conv2, kind)
        self.film, self.width = block.film, block.conv1.out_channels
        self.map = None if block.film_map is None else _kernel(block.film_map, kind)

    def __call__(self, x: Tensor, film: Tensor) -> Tensor:
        h = F.conv2d(ops.channel_norm(x, self.gain, framed=True), *self.first)
        h = F.conv2d(ops.film_silu(h, film, framed=True), self.last[0])
        return ops.residual(x, h, self.last[1])


def _tables(blocks: Sequence[_Block], modulation: Tensor, kind: torch.dtype) -> list[Tensor]:
    """What every block is told for rows of modulation: (rows, 2 width, 1, 1) each."""
    return [block.film(modulation)[:, :, None, None].to(kind) for block in blocks]


class FastDenoiser:
    """The clean latent behind a noisy one, as `zoomldm.ZoomLDM` estimates it."""

    def __init__(self, network: ZoomLDM, way: Sequence[Step], kind: torch.dtype) -> None:
        """Prepare a network, on its device, for one way.

        Args:
            network: in float32.
            way: the evaluations.
            kind: of the convolutions.
        """
        unet, summary = network.unet, network.summarizer
        self._network, self._kind = network, kind
        self._down, self._up = (
            [[_Block(cast(ResBlock, b), kind) for b in cast(nn.ModuleList, grid)] for grid in grids]
            for grids in (unet.down, unet.up)
        )
        channels = unet.config.latent_channels + unet.config.parent_channels
        self._flags = lanes(channels + 1) - channels  # the flag, and zeros that it meets
        self._first = _kernel(unet.first, kind, channels + self._flags)
        self._maps = [_kernel(m, kind) for m in (unet.down1, unet.down2, unet.up2, unet.up1)]
        self._add_cond, self._last = _kernel(unet.add_cond, kind), _kernel(unet.last, kind)
        self._gain = unet.norm.weight.detach().to(kind)
        self._summary = [_Block(cast(ResBlock, b), kind) for b in summary.blocks]
        self._summary_first = _kernel(summary.first, kind, lanes(summary.first.in_channels))
        self._summary_gain = summary.last.weight.detach().to(kind)
        magnitudes = F.silu(summary.magnification.weight.detach())
        self._summary_tables = _tables(self._summary, magnitudes, kind)
        self.steps = [(step, *self._told_at(step)) for step in way]

    def _told_at(self, step: Step) -> tuple[list[Tensor], Tensor]:
        """The tables of the blocks in the order that they run, and the posterior's shares.

        The latter are (rows, 3, c, 1, 1): of x, of the guess, and of what the network adds.
        """
        network = self._network
        rows = torch.arange(2 * LEVELS, device=network.deviation.device)
        has, mag = (rows >= LEVELS).float(), rows % LEVELS
        t, dt = (torch.full_like(has, value) for value in (step.t, step.step))
        gain, deviation = network.gain(t, has)
        modulation = network.unet.modulation(t, dt, has, mag)
        shares = torch.stack((gain, 1 - gain * (1 - step.t), deviation), 1)
        return _tables(list(self._in_order()), modulation, self._kind), shares

    def _in_order(self) -> Iterator[_Block]:
        for grid in (*self._down, *reversed(self._up)):
            yield from grid

    def tell(self, parent: Tensor, kind: Tensor, cond: Tensor) -> Told:
        """What all evaluations of a batch share.

        Args:
            parent: (n, 4h, 4w, 3) bytes; anything where there is none.
            kind: (n,) int64, the magnification's index, plus LEVELS where there is a parent.
            cond: (n, lanes(d + 1), h / 4, w / 4) conditioning map, padded with zeros.
        """
        has = (kind >= LEVELS).float()
        above = (parent.permute(0, 3, 1, 2).float() * (2 / 255) - 1) * has[:, None, None, None]
        x = F.conv2d(cond.to(self._kind), *self._summary_first)
        mag = kind % LEVELS
        for block, table in zip(self._summary, self._summary_tables, strict=True):
            x = block(x, table[mag])
        summary = ops.channel_norm(x, self._summary_gain)
        return Told(kind, has, above, F.pixel_unshuffle(above, PARENT), summary)

    def maps(self, told: Told) -> list[Tensor]:
        """What the embeddings tell the coarsest blocks, the same at every evaluation."""
        coarse = [block for block in self._in_order() if block.map is not None]
        return [F.conv2d(told.cond, *cast(Any, block.map)) for block in coarse]

    def guess(self, told: Told) -> Tensor:
        """What the parent alone says of the latent (n, c, h, w)."""
        return self._network.guess(told.unshuffled) * told.has_parent[:, None, None, None]

    def run(self, x: Tensor, told: Told) -> Tensor:
        """Noise (n, c, h, w) to the latent at the end of the way, float32."""
        guess, maps = self.guess(told), self.maps(told)
        flags = told.has_parent[:, None, None, None].expand(-1, self._flags, *x.shape[2:])
        parent = torch.cat((told.unshuffled, flags), 1).to(self._kind)
        x = x.contiguous()
        for step, tables, shares in self.steps:
            of_x, of_guess, spread = shares[told.kind].unbind(1)
            seen = F.pad(torch.cat((x.to(self._kind), parent), 1), (1, 1, 1, 1), mode="replicate")
            found = self._estimate(seen, told, tables, maps)
            clean = of_x * x + of_guess * guess + spread * found.float()
            x, _ = ops.guided_step(x, clean.contiguous(), move=(step.keep, step.gain, 0.0))
        return x

    def _estimate(
        self, framed: Tensor, told: Told, tables: Sequence[Tensor], maps: Sequence[Tensor]
    ) -> Tensor:
        films, extra = iter([table[told.kind] for table in tables]), iter(maps)
        inputs = framed.contiguous(memory_format=torch.channels_last)
        down1, down2, up2, up1 = self._maps

        def through(blocks: Sequence[_Block], x: Tensor) -> Tensor:
            for block in blocks:
                film = next(films)
                x = block(x, film if block.map is None else film + next(extra))
            return x

        fine = through(self._down[0], F.conv2d(inputs, *self._first))
        middle = through(self._down[1], F.conv2d(fine, *down1, stride=2))
        x = F.conv2d(middle, *down2, stride=2) + F.conv2d(told.cond, *self._add_cond)
        x = through(self._up[2], through(self._down[2], x))
        x = through(self._up[1], middle + F.pixel_shuffle(F.conv2d(x, *up2), 2))
        x = through(self._up[0], fine + F.pixel_shuffle(F.conv2d(x, *up1), 2))
        normal = ops.channel_norm(x, self._gain, activate=True, framed=True)
        return F.conv2d(normal, *self._last)


class FastRenderer:
    """Pixels over their parent, as `renderer.Renderer` draws them."""

    def __init__(self, network: Renderer, kind: torch.dtype) -> None:
        """Prepare a network, in float32 and on its device, with convolutions of a kind."""
        self._enlarge, self._kind = network.enlarge, kind
        self._magnification = network.magnification.weight.detach()[:, :, None, None].to(kind)
        self._flags = LANES - 3  # at the full size of the parent
        self._see_half = _kernel(network.see_half, kind, LANES)
        self._first, self._see_quarter, self._last = (
            _kernel(m, kind) for m in (network.first, network.see_quarter, network.last)
        )
        self._up_quarter, self._up_half = (
            _kernel(m, kind) for m in (network.up_quarter, network.up_half)
        )
        self._at_half, self._at_quarter, self._at_eighth = (
            [(_kernel(block.conv1, kind), _kernel(block.conv2, kind)) for block in cast(Any, grid)]
            for grid in (network.at_half, network.at_quarter, network.at_eighth)
        )

    def run(self, latent: Tensor, told: Told) -> Tensor:
        """Latents (n, c, h, w) to pixels (n, 3, 8h, 8w) around [-1, 1], float32."""
        flags = told.has_parent[:, None, None, None].expand(-1, self._flags, *told.above.shape[2:])
        seen = torch.cat((told.above, flags), 1).to(self._kind)
        seen = seen.contiguous(memory_format=torch.channels_last)
        four = seen[:, :4]
        x = torch.cat((latent.to(self._kind), F.pixel_unshuffle(four, 4)), 1)
        x = _conv(x, self._first) + self._magnification[told.kind % LEVELS]
        x = _through(self._at_eighth, x)
        x = _enlarged(F.conv2d(x, *self._up_quarter))
        x = x + _conv(F.pixel_unshuffle(four, 2), self._see_quarter)
        x = _through(self._at_quarter, x)
        x = _enlarged(F.conv2d(x, *self._up_half)) + _conv(seen, self._see_half)
        detail = _conv(torch.relu(_through(self._at_half, x)), self._last)
        return F.pixel_shuffle(self._enlarge(told.above) + detail.float(), 2)


def _conv(x: Tensor, kernel: Kernel) -> Tensor:
    return F.conv2d(x.contiguous(memory_format=torch.channels_last), *kernel, padding=1)


def _through(blocks: Sequence[tuple[Kernel, Kernel]], x: Tensor) -> Tensor:
    """`autoencoder.PlainBlock`s; the second bias is added with the residual."""
    for first, (weight, bias) in blocks:
        h = torch.relu(F.conv2d(torch.relu(x), *first, padding=1))
        x = ops.residual(x, F.conv2d(h, weight, padding=1), bias)
    return x


def _enlarged(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear")
