"""The parts of drawing around the networks, on tensors of any device: noise, colours, bytes.

Each is the NumPy function of the same purpose (`noise.noise_field`, `windows.lock_colour`) for a
batch of windows whose places differ, without a value ever coming back to the host on the way, so
that a CUDA graph can hold them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_WRAP = 1 << 64
_LOCK = 16  # pixels; as in `windows`
_ROUNDS = 3  # the same


def _signed(word: int) -> int:
    """The bits of an unsigned 64-bit integer as the signed one that tensors hold."""
    return word - _WRAP if word >= _WRAP // 2 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)


def noise_tensor(lanes: Tensor, corners: Tensor, size: tuple[int, int], table: Tensor) -> Tensor:
    """`noise.noise_field` of several windows, bit for bit; integer products wrap as there.

    Made where it is used: the hash is integers and the deviates a table, so nothing depends on the
    device, and 128 bytes a window cross the bus instead of a hundred thousand.

    Args:
        lanes: (n, channels) int64, the bits of `noise.noise_lanes`.
        corners: (n, 2) int64, rows and columns of the windows' first latent cells.
        size: height and width in latent cells.
        table: (65536,) of `noise.normal_table`.

    Returns:
        (n, channels, height, width).
    """
    rows, columns = (
        corners[:, axis, None] + torch.arange(size[axis], device=corners.device) for axis in (0, 1)
    )
    rows = _scramble(lanes[:, :, None] ^ (rows * _GOLDEN)[:, None, :])
    cells = _scramble(rows[..., None] ^ (columns * _GOLDEN)[:, None, None, :])
    return table[(cells >> 48) & 0xFFFF]


def _scramble(words: Tensor) -> Tensor:
    words = words + _GOLDEN
    words = (words ^ _shifted(words, 30)) * _MIX_1
    words = (words ^ _shifted(words, 27)) * _MIX_2
    return words ^ _shifted(words, 31)


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Shifted right without the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def lock_colours(drawn: Tensor, parent: Tensor, has_parent: Tensor) -> Tensor:
    """`windows.lock_colour` of several windows (n, 3, h, w); without a parent they stay.

    Args:
        drawn: pixels of the level, any linear scale.
        parent: (n, 3, h / 2, w / 2) pixels of the level above, same scale.
        has_parent: (n,) 1 or 0.
    """
    error = F.avg_pool2d(parent, _LOCK // 2) - F.avg_pool2d(drawn, _LOCK)
    error = _unsmoothed(error * has_parent[:, None, None, None])
    # Linear interpolation with ends held is what "bilinear" means between pixel centres.
    return drawn + F.interpolate(error, scale_factor=float(_LOCK), mode="bilinear")


def _unsmoothed(error: Tensor) -> Tensor:
    """`windows.unsmoothed` of (n, 3, h, w); means of values enlarged to any size are the same."""
    given = error
    for _ in range(_ROUNDS):
        reached = F.avg_pool2d(F.interpolate(given, scale_factor=2.0, mode="bilinear"), 2)
        given = given + (error - reached)
    return given
