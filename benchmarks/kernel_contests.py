"""What competes in `kernel_speed`: every fused op with its rivals and the truth, on any device."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.kernel_cases import Case, Draw
from wsicodec import ops
from wsicodec.models.published.attention import Attention
from wsicodec.ops import folds, reference

Run = Callable[[], Any]


@dataclass
class Contest:
    """Ours against others; all answer the same question."""

    title: str
    ours: Run
    truth: Run  # in float32 or wider
    rivals: dict[str, Run] = field(default_factory=dict)
    tolerance: float = 2e-2  # of the norm of the answer
    bytes: int = 0  # of the batch
    flops: int = 0
    compiles: str = "eager"  # the rival that is compiled as well
    mode: str = "max-autotune-no-cudagraphs"


def error(got: Any, wanted: Any) -> float:
    """Relative error of the first output; infinite if it is not finite."""
    first, true = (x[0] if isinstance(x, tuple) else x for x in (got, wanted))
    if not torch.isfinite(first.float()).all():
        return math.inf
    first, true = first.double().flatten(), true.double().flatten()
    return float(torch.linalg.norm(first - true) / torch.linalg.norm(true))


def tolerance_of(dtype: torch.dtype) -> float:
    """Three roundings of the type, at half a unit each, and float32's sums."""
    return 4 * torch.finfo(dtype).eps + 2e-5


def widened(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Floating-point tensors in float32, or float64 on a CPU."""

    def wide(x: Any) -> Any:
        if not isinstance(x, Tensor) or not x.is_floating_point():
            return x
        return x.double() if x.device.type == "cpu" else x.float()

    return tuple(wide(a) for a in arguments)


def scaled_dot_product(backend: SDPBackend, arguments: tuple[Any, ...]) -> Tensor:
    """PyTorch's attention by one backend; raises RuntimeError where it does not run."""
    with sdpa_kernel(backend):
        return reference.attention(*arguments)


def two_products(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    residual: Tensor | None,
    bias: Tensor | None,
    _heads: int,
    scale: float,
) -> Tensor:
    """Attention of one head by two batched products and a softmax between."""
    mixed = torch.bmm(torch.softmax(torch.bmm(q, k.mT) * scale, -1), v)
    if bias is not None:
        mixed = mixed + bias
    return mixed if residual is None else residual + mixed


def title_of(op: str, size: tuple[int, int]) -> str:
    """What a contest of an op that is not one of `kernel_cases` is called."""
    words = "{1} wide, {0} tokens" if op == "condition" else "{1} wide, {0} x {0}"
    return f"{op} {words.format(*size)}"


def conditioning(tokens: int, width: int, batch: int, draw: Draw) -> Contest:
    """The sub-block as the network has it, against its fold."""
    torch.manual_seed(draw.seed)
    layer: Any = Attention(width, 512, 1).requires_grad_(requires_grad=False).to(draw.device)
    x, context = draw(batch, tokens, width), draw(batch, 65, 512)
    one, two = ((draw.wide(width, scale=0.3) + 1, draw.wide(width)) for _ in range(2))
    out = layer.to_out[0]
    weights = (layer.to_q.weight, layer.to_k.weight, layer.to_v.weight, out.weight)
    matrices = [m.float() for m in folds.fold_projections(*weights, one)]
    told = folds.fold_condition(context, (matrices[0], matrices[1], matrices[2]), out.bias)

    def eager(layer: Any, x: Tensor, context: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        normal = F.layer_norm(x, (width,), one[0].to(kind), one[1].to(kind))
        y = x + layer(normal, context)
        return y, F.layer_norm(y, (width,), two[0].to(kind), two[1].to(kind))

    truth = partial(eager, layer, x.float(), context.float(), torch.float32)
    same = Attention(width, 512, 1).requires_grad_(requires_grad=False).to(draw.device, draw.dtype)
    same.load_state_dict(layer.state_dict())
    weight, shift = (v.to(draw.dtype) for v in two)
    return Contest(
        title_of("condition", (tokens, width)),
        lambda: ops.condition(x, told, weight, shift),
        truth,
        {"eager": partial(eager, same, x, context, draw.dtype)},
        tolerance_of(draw.dtype),
        bytes=3 * x.numel() * x.element_size(),
    )


def doubling(side: int, width: int, batch: int, draw: Draw) -> Contest:
    """Doubling and convolution, against parities."""
    weight = draw.wide(width, width, 3, 3, scale=(9 * width) ** -0.5)
    x, bias = draw.map(batch, width, side, side), draw(width)
    kernel = folds.fold_upsample(weight).to(draw.dtype)

    def eager(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)

    low = weight.to(draw.dtype).contiguous(memory_format=torch.channels_last)
    return Contest(
        title_of("upsample_conv", (side, width)),
        lambda: ops.upsample_conv(x, kernel, bias),
        lambda: eager(x.float(), weight, bias.float()),
        {"eager": lambda: eager(x, low, bias)},
        tolerance_of(draw.dtype),
        flops=2 * 16 * batch * side * side * width * width,
    )


def of_case(case: Case, batch: int, draw: Draw) -> Contest:
    """An op against its reference, and attention against PyTorch's backends."""
    arguments = case.make(batch, draw)
    plain = getattr(reference, case.op)
    rivals: dict[str, Run] = {"eager": lambda: plain(*arguments)}
    if case.op == "attention":
        backends = {
            "flash": SDPBackend.FLASH_ATTENTION,
            "cuDNN": SDPBackend.CUDNN_ATTENTION,
            "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
            "math": SDPBackend.MATH,
        }
        rivals |= {
            f"SDPA {name}": partial(scaled_dot_product, backend, arguments)
            for name, backend in backends.items()
        }
        rivals["bmm and softmax"] = lambda: two_products(*arguments)
    return Contest(
        case.title,
        partial(getattr(torch.ops.wsicodec, f"_{case.op}"), *arguments),
        lambda: plain(*widened(arguments)),
        rivals,
        tolerance_of(draw.dtype),
        case.bytes * batch,
        case.flops * batch,
    )
