"""Inception-v3 as the Fréchet inception distance takes it (Szegedy 2016; Heusel 2017).

The network that TensorFlow published in 2015: its average pools leave the border's padding out, and
its last block pools by maximum. Parameters bear the names of the usual PyTorch conversion
(`Mixed_5b.branch1x1.conv.weight`, ...), so its weights file fits as it is.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.errors import BundleError

SIDE = 299  # pixels
WIDTH = 2048
_IGNORED = ("fc.", "AuxLogits.")  # of the classifier

Step = str | tuple[str, ...]  # a layer's name, or layers side by side
Kernel = int | tuple[int, int]
Layer = tuple[int, Kernel, int]  # width, kernel, stride


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, before: int, width: int, kernel: Kernel, stride: int, pad: Kernel) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, width, kernel, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


_POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": _average,
    "largest": lambda x: F.max_pool2d(x, 3, 1, 1),
    "halve": lambda x: F.max_pool2d(x, 3, 2),
}


class _Mixed(nn.Module):
    """Paths side by side, joined along the channels."""

    def __init__(
        self, layers: Mapping[str, nn.Module], paths: tuple[tuple[Step, ...], ...]
    ) -> None:
        super().__init__()
        self.paths = paths
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._follow(x, path) for path in self.paths], 1)

    def _follow(self, x: Tensor, path: tuple[Step, ...]) -> Tensor:
        for step in path:
            if isinstance(step, tuple):
                x = torch.cat([getattr(self, name)(x) for name in step], 1)
            else:
                x = _POOLS[step](x) if step in _POOLS else getattr(self, step)(x)
        return x


def _conv(before: int, width: int, kernel: Kernel = 1, stride: int = 1) -> _Conv:
    """A layer that keeps the plane's size, or halves it without padding."""
    pad = tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2
    return _Conv(before, width, kernel, stride, 0 if stride > 1 else cast(Kernel, pad))


def _chain(prefix: str, before: int, *layers: Layer) -> dict[str, nn.Module]:
    """Layers `prefix_1`, `prefix_2`, ... one after another: (width, kernel, stride) of each."""
    made: dict[str, nn.Module] = {}
    for number, (width, kernel, stride) in enumerate(layers, 1):
        made[f"{prefix}_{number}"] = _conv(before, width, kernel, stride)
        before = width
    return made


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}_{number}" for number in range(1, count + 1))


def _block_a(before: int, pooled: int) -> _Mixed:
    layers = {
        "branch1x1": _conv(before, 64),
        **_chain("branch5x5", before, (48, 1, 1), (64, 5, 1)),
        **_chain("branch3x3dbl", before, (64, 1, 1), (96, 3, 1), (96, 3, 1)),
        "branch_pool": _conv(before, pooled),
    }
    fives, threes = _names("branch5x5", 2), _names("branch3x3dbl", 3)
    return _Mixed(layers, (("branch1x1",), fives, threes, ("average", "branch_pool")))


def _block_b(before: int) -> _Mixed:
    layers = {
        "branch3x3": _conv(before, 384, 3, 2),
        **_chain("branch3x3dbl", before, (64, 1, 1), (96, 3, 1), (96, 3, 2)),
    }
    return _Mixed(layers, (("branch3x3",), _names("branch3x3dbl", 3), ("halve",)))


def _block_c(before: int, width: int) -> _Mixed:
    row, column = (1, 7), (7, 1)
    short: tuple[Layer, ...] = ((width, 1, 1), (width, row, 1), (192, column, 1))
    long: tuple[Layer, ...] = (
        (width, 1, 1),
        *((width, k, 1) for k in (column, row, column)),
        (192, row, 1),
    )
    layers = {
        "branch1x1": _conv(before, 192),
        **_chain("branch7x7", before, *short),
        **_chain("branch7x7dbl", before, *long),
        "branch_pool": _conv(before, 192),
    }
    sevens, doubled = _names("branch7x7", 3), _names("branch7x7dbl", 5)
    return _Mixed(layers, (("branch1x1",), sevens, doubled, ("average", "branch_pool")))


def _block_d(before: int) -> _Mixed:
    sevens: tuple[Layer, ...] = ((192, 1, 1), (192, (1, 7), 1), (192, (7, 1), 1), (192, 3, 2))
    layers = {
        **_chain("branch3x3", before, (192, 1, 1), (320, 3, 2)),
        **_chain("branch7x7x3", before, *sevens),
    }
    return _Mixed(layers, (_names("branch3x3", 2), _names("branch7x7x3", 4), ("halve",)))


def _block_e(before: int, pool: str) -> _Mixed:
    layers: dict[str, nn.Module] = {
        "branch1x1": _conv(before, 320),
        "branch3x3_1": _conv(before, 384),
        "branch3x3_2a": _conv(384, 384, (1, 3)),
        "branch3x3_2b": _conv(384, 384, (3, 1)),
        **_chain("branch3x3dbl", before, (448, 1, 1), (384, 3, 1)),
        "branch3x3dbl_3a": _conv(384, 384, (1, 3)),
        "branch3x3dbl_3b": _conv(384, 384, (3, 1)),
        "branch_pool": _conv(before, 192),
    }
    threes: tuple[Step, ...] = ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b"))
    doubled: tuple[Step, ...] = (*_names("branch3x3dbl", 2), ("branch3x3dbl_3a", "branch3x3dbl_3b"))
    return _Mixed(layers, (("branch1x1",), threes, doubled, (pool, "branch_pool")))


class Inception(nn.Module):
    """Bytes to the 2048 means before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, 2, 0)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3, 1, 0)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, 1, 1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1, 1, 0)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3, 1, 0)
        for name, before, pooled in (("b", 192, 32), ("c", 256, 64), ("d", 288, 64)):
            self.add_module(f"Mixed_5{name}", _block_a(before, pooled))
        self.Mixed_6a = _block_b(288)
        for name, width in (("b", 128), ("c", 160), ("d", 160), ("e", 192)):
            self.add_module(f"Mixed_6{name}", _block_c(768, width))
        self.Mixed_7a = _block_d(768)
        self.Mixed_7b = _block_e(1280, "average")
        self.Mixed_7c = _block_e(2048, "largest")

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, 3, h, w) uint8 of any size to (n, 2048)."""
        x = resize(images.float(), SIDE)
        x = (x - 128) / 128
        pools = {"Conv2d_2b_3x3", "Conv2d_4a_3x3"}
        for name, layer in self.named_children():
            x = layer(x)
            x = F.max_pool2d(x, 3, 2) if name in pools else x
        return x.mean((2, 3))


def resize(images: Tensor, side: int) -> Tensor:
    """Bilinear to `side` pixels as TensorFlow 1 did it: corners' outer edges agree, centres do not.

    Pixel i of the result is taken at i * size / side of (n, c, h, w); the last row and column are
    repeated. FID figures in print depend on it (Parmar et al. 2022).
    """
    return _stretch(_stretch(images, side, 3), side, 2)


def _stretch(x: Tensor, side: int, axis: int) -> Tensor:
    size = x.shape[axis]
    # One float32 product per place, as in the published graph: in float64 ties fall otherwise.
    places = torch.arange(side, dtype=x.dtype) * torch.tensor(size / side, dtype=torch.float32)
    low = places.long()
    shape = [-1 if a == axis else 1 for a in range(4)]
    share = (places - low).reshape(shape).to(x.device)
    near = x.index_select(axis, low.to(x.device))
    far = x.index_select(axis, (low + 1).clamp_max(size - 1).to(x.device))
    return near + (far - near) * share


def load_inception(weights: Path) -> Inception:
    """The network with the user's weights: safetensors, or a .pth holding nothing but tensors.

    Raises BundleError where a file cannot be read without running code of its own, or does not fit.
    """
    tensors = _read(weights)
    network = Inception()
    wanted = network.state_dict()
    given = {k: v for k, v in tensors.items() if not k.startswith(_IGNORED)}
    counters = {k for k in wanted if k.endswith("num_batches_tracked")}  # read by nothing
    lacking = sorted(set(wanted) - set(given) - counters)
    foreign = sorted(set(given) - set(wanted))
    wrong = sorted(k for k in given if k in wanted and given[k].shape != wanted[k].shape)
    if lacking or foreign or wrong:
        raise BundleError(
            f"expected Inception-v3 weights of the FID layout in {weights}: {len(lacking)} tensors "
            f"lack ({', '.join(lacking[:3])}), {len(foreign)} are unknown "
            f"({', '.join(foreign[:3])}), {len(wrong)} have another shape ({', '.join(wrong[:3])})"
        )
    network.load_state_dict(given, strict=False)
    return network.eval().requires_grad_(requires_grad=False)


def _read(weights: Path) -> dict[str, Tensor]:
    try:
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(weights)
        found = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise BundleError(
            f"expected tensors in {weights}, as safetensors or a plain .pth: {error}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise BundleError(f"expected named tensors and nothing else in {weights}")
    return dict(found)
