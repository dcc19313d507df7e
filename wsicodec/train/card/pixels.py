"""What is done to pixels at home with NumPy and Pillow, done to many at once on a device."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.train.augment import STAINS, AugmentConfig, StainBend
from wsicodec.train.card.bank import send
from wsicodec.train.data import MAP_STEP

CUBIC = (-9 / 128, 111 / 128, 29 / 128, -3 / 128)  # Keys 1981, a quarter of a pixel off


@dataclass(frozen=True)
class Bends:
    """Stain bends of n samples: matrices (n, 3, 3) and biases (n, 3) of optical density."""

    matrices: Tensor
    biases: Tensor

    def apply(self, rgb: Tensor) -> Tensor:
        """Bend (n, 3, h, w) pixels of 0 to 255, as `StainBend.apply` does, not rounded."""
        density = -torch.log((rgb.float() + 0.5) / 255.5)
        stained = (density.mean(1, keepdim=True) * 10).clamp_max(1)
        bent = torch.einsum("nchw,ncd->ndhw", density, self.matrices)
        bent = bent + self.biases[:, :, None, None] * stained
        return (torch.exp(-bent) * 255).clamp(0, 255)


def as_bends(bend: StainBend | None, device: torch.device) -> Bends:
    """One bend; None leaves colours as they are."""
    matrix = np.eye(3, dtype=np.float32) if bend is None else bend.matrix
    bias = np.zeros(3, np.float32) if bend is None else bend.bias
    return Bends(torch.tensor(matrix, device=device)[None], torch.tensor(bias, device=device)[None])


def draw_bends(
    rng: np.random.Generator, count: int, config: AugmentConfig, device: torch.device
) -> Bends:
    """`augment.draw_bend` for many samples."""
    half = np.array([1, 1, 0.5])
    gain = np.exp(rng.normal(0, config.stain_gain, (count, 3)) * half)
    bias = rng.normal(0, config.stain_bias, (count, 3)) * half
    channel = np.exp(rng.normal(0, config.channel_gain, (count, 3)))
    plain = rng.random(count) < config.plain_share
    matrix = np.linalg.inv(STAINS) @ (gain[:, :, None] * STAINS) * channel[:, None, :]
    matrix = np.where(plain[:, None, None], np.eye(3), matrix)
    shift = np.where(plain[:, None], 0, (bias @ STAINS) * channel)
    return Bends(send(matrix.astype(np.float32), device), send(shift.astype(np.float32), device))


def turn(image: Tensor, code: int) -> Tensor:
    """`augment.turn` of (h, w, ...), `code` in 0..7."""
    turned = torch.rot90(image, code & 3, (0, 1))
    return turned.flip(1) if code & 4 else turned


def turn_each(images: Tensor, codes: Tensor) -> Tensor:
    """Each of (n, c, s, s) in its own of the eight flips and quarter turns, `codes` (n,)."""
    bit = [(codes >> k & 1).bool()[:, None, None, None] for k in range(3)]
    images = torch.where(bit[0], images.flip(-1), images)
    images = torch.where(bit[1], images.flip(-2), images)
    return torch.where(bit[2], images.transpose(-1, -2), images)


def halve(rgb: Tensor) -> Tensor:
    """`box_reduce` by two of (h, w, 3) uint8; a ragged last row averages what is there."""
    wide = rgb.to(torch.int16)
    if rgb.shape[0] % 2:
        wide = torch.cat([wide, wide[-1:]])
    if rgb.shape[1] % 2:
        wide = torch.cat([wide, wide[:, -1:]], 1)
    total = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).to(torch.uint8)


def tissue_map(rgb: Tensor) -> NDArray[np.float32]:
    """`data.tissue_map` of (h, w, 3) uint8 whose sides are multiples of MAP_STEP."""
    small = rgb[::4, ::4].to(torch.int16)
    low = small.amin(-1)
    stained = ((small.amax(-1) - low > 18) & (low < 225)).float()[None, None]
    return F.avg_pool2d(stained, MAP_STEP // 4)[0, 0].cpu().numpy()


def double(image: Tensor) -> Tensor:
    """`resample.double` of (n, c, h, w): cubic convolution, borders repeated."""
    for axis in (2, 3):
        length = image.shape[axis]
        reach = [2, 2, 0, 0] if axis == 3 else [0, 0, 2, 2]
        padded = F.pad(image, reach, mode="replicate")
        taps = [padded.narrow(axis, k, length) for k in range(5)]
        even = sum(w * t for w, t in zip(CUBIC[::-1], taps[:4], strict=True))
        odd = sum(w * t for w, t in zip(CUBIC, taps[1:], strict=True))
        image = torch.stack([torch.as_tensor(even), torch.as_tensor(odd)], axis + 1)
        image = image.flatten(axis, axis + 1)
    return image


def blur(images: Tensor, deviation: Tensor) -> Tensor:
    """Gaussian over five pixels of (n, c, h, w), each with its own deviation (n,), below 1."""
    place = torch.arange(-2, 3, device=images.device)
    taps = torch.exp(-0.5 * (place / deviation.clamp_min(1e-3)[:, None]).square())
    taps = (taps / taps.sum(1, keepdim=True))[:, :, None, None, None]
    for axis in (2, 3):
        reach = [2, 2, 0, 0] if axis == 3 else [0, 0, 2, 2]
        padded = F.pad(images, reach, mode="replicate")
        parts = [taps[:, k] * padded.narrow(axis, k, images.shape[axis]) for k in range(5)]
        images = torch.stack(parts).sum(0)
    return images


def resample(windows: Tensor, corner: Tensor, cut: Tensor, side: int) -> Tensor:
    """A square of each window resampled to `side` pixels: bicubic, antialiased, as Pillow's.

    windows: (n, c, s, s); corner: (n, 2) row and column; cut: (n,) pixels a side
    """
    rows, columns = (_weights(windows.shape[-1], corner[:, k], cut, side) for k in (0, 1))
    return torch.einsum("nih,nchw,njw->ncij", rows, windows, columns)


def _weights(length: int, first: Tensor, cut: Tensor, side: int) -> Tensor:
    """Rows (n, side, length) that sum to one and are zero outside the cut."""
    device = first.device
    scale = (cut / side)[:, None, None]
    centre = (torch.arange(side, device=device)[None, :, None] + 0.5) * scale
    place = torch.arange(length, device=device)[None, None, :] - first[:, None, None]
    x = ((place + 0.5 - centre) / scale.clamp_min(1)).abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weight = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    weight = torch.where((place >= 0) & (place < cut[:, None, None]), weight, 0)
    return weight / weight.sum(-1, keepdim=True)


def to_bytes(images: Tensor) -> Tensor:
    """(n, 3, h, w) of 0 to 255 as (n, h, w, 3) uint8."""
    return images.add(0.5).floor().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def blocks_of(height: int, width: int, side: int) -> NDArray[np.int64]:
    """Corners (n, 2) of the blocks that cover a plane."""
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    return np.argwhere(np.ones((rows, columns), bool)) * side
