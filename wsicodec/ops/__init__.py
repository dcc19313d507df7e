"""Operations with a fused form on CUDA beside their plain-PyTorch reference of the same name.

Each function takes the registered op, which `torch.compile` sees as one node, where a CUDA tensor
arrives, and the reference elsewhere; `dispatch` says which shapes of which card run fused.
"""

from wsicodec.ops.attention import attention, condition
from wsicodec.ops.dispatch import use_table
from wsicodec.ops.lookup import nearest_entry, project_symbols
from wsicodec.ops.norms import channel_norm, film_silu, group_norm
from wsicodec.ops.pointwise import geglu, guided_step, residual
from wsicodec.ops.upsample import upsample_conv
from wsicodec.ops.windows import blend_windows

__all__ = [
    "attention",
    "blend_windows",
    "channel_norm",
    "condition",
    "film_silu",
    "geglu",
    "group_norm",
    "guided_step",
    "nearest_entry",
    "project_symbols",
    "residual",
    "upsample_conv",
    "use_table",
]
