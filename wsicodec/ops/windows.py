"""Windows that overlap, to one picture."""

import torch
from torch import Tensor

from wsicodec.ops import reference
from wsicodec.ops.dispatch import dense, launch_of, wanted
from wsicodec.ops.forms import registered


def _picture(
    windows: Tensor, _weights: Tensor, _origins: Tensor, height: int, width: int, _half: float
) -> Tensor:
    return torch.empty((height, width, 3), dtype=torch.uint8, device=windows.device)


@registered(_picture)
def _blend_windows(
    windows: Tensor, weights: Tensor, origins: Tensor, height: int, width: int, half: float
) -> Tensor:
    how = launch_of("blend_windows", windows)
    if how is None:
        return reference.blend_windows(windows, weights, origins, height, width, half)
    from wsicodec_kernels.windows import blend_windows as kernel

    given = (dense(windows), weights.contiguous(), origins.int().contiguous())
    return kernel(*given, height, width, half, how)


def blend_windows(
    windows: Tensor,
    weights: Tensor,
    origins: Tensor,
    size: tuple[int, int],
    *,
    half: float = 0.5,
) -> Tensor:
    """Weighted means of overlapping windows, as bytes.

    Args:
        windows: (k, 3, h, w), colours in [-1, 1].
        weights: (h, w), at least 0; what weighs nothing, such as a halo, is cut off.
        origins: (k, 2) rows and columns of the windows' corners in the picture; may stick out.
        size: height and width of the picture.
        half: added before truncation; 0 for the truncation of published code.

    Returns:
        (height, width, 3) uint8, zero where no window lies.
    """
    run = _blend_windows if wanted(windows, weights) else reference.blend_windows
    return run(windows, weights, origins, *size, half)
