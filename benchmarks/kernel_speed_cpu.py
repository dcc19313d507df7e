"""What the folds are worth in plain PyTorch, on one thread of a CPU.

    python -m benchmarks.kernel_speed_cpu             the sub-blocks
    python -m benchmarks.kernel_speed_cpu --unet      also a forward pass of the released U-Net
    python -m benchmarks.kernel_speed_cpu --decoder   also one decoding of VQ-f4

Plain and folded forms alternate in one process; a round's ratio is of process time, which other
jobs on the machine hardly touch. Answers are compared first. Rows to benchmarks/results/
kernel_speed_cpu.csv: median ratio with its extremes, plain over folded.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.record import Row, write
from wsicodec import ops
from wsicodec.models.published.attention import Attention
from wsicodec.models.published.fused_unet import FusedUNet
from wsicodec.models.published.fused_vq import FusedVqDecoder
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig
from wsicodec.models.published.vq import VqAutoencoder, VqConfig
from wsicodec.ops import folds

Pair = tuple[str, str, Callable[[], Tensor], Callable[[], Tensor]]  # subject, setting, both forms
CLOSE = 1e-5


def drawn(module: nn.Module) -> Any:
    """Weights at a scale that neither dies nor explodes, channels last."""
    for parameter in module.parameters():
        wide = parameter.ndim > 1
        std = parameter[0].numel() ** -0.5 if wide else 0.1
        nn.init.normal_(parameter, 0.0 if wide else 0.5, std)
    module.eval().requires_grad_(requires_grad=False)
    return module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def a_map(*shape: int) -> Tensor:
    """Random, channels last."""
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def sub_blocks() -> Iterator[Pair]:
    """What is folded, at the U-Net's shapes, one tile."""
    for tokens, width in ((1024, 384), (256, 576), (64, 960)):
        own, cross = drawn(Attention(width, width, 1)), drawn(Attention(width, 512, 1))
        x, context = torch.randn(1, tokens, width), torch.randn(1, 65, 512)
        vectors = torch.rand(width) + 0.5, torch.randn(width) / 10
        out = cross.to_out[0]
        weights = (cross.to_q.weight, cross.to_k.weight, cross.to_v.weight, out.weight)
        matrices = [m.float() for m in folds.fold_projections(*weights, vectors)]
        told = folds.fold_condition(context, (matrices[0], matrices[1], matrices[2]), out.bias)

        def plain(
            cross: Any = cross, x: Tensor = x, c: Tensor = context, v: Any = vectors
        ) -> Tensor:
            return x + cross(F.layer_norm(x, x.shape[2:], *v), c)

        def folded(x: Tensor = x, told: folds.Condition = told, v: Any = vectors) -> Tensor:
            return ops.condition(x, told, *v)[0]

        shape = f"{width} wide, {tokens} tokens"
        yield "conditioning", shape, plain, folded
        out = own.to_out[0]
        two = folds.fold_self_attention(
            (own.to_q.weight, None),
            own.to_k.weight,
            (own.to_v.weight, None),
            (out.weight, out.bias),
        )

        def own_folded(x: Tensor = x, two: folds.Projections = two) -> Tensor:
            both = F.linear(x, two.weight)
            q, v = both.chunk(2, -1)
            return ops.attention(q, x, v, residual=x, bias=two.out_bias)

        yield "self-attention", shape, lambda own=own, x=x: x + own(x, x), own_folded  # type: ignore[misc]
    yield from doublings()


def doublings() -> Iterator[Pair]:
    """Doubling and convolution, at the U-Net's and the decoder's shapes."""
    for side, width in ((8, 960), (16, 576), (32, 384), (64, 512)):
        conv, x = drawn(nn.Conv2d(width, width, 3, padding=1)), a_map(1, width, side, side)
        kernel = folds.fold_upsample(conv.weight)

        def plain(conv: Any = conv, x: Tensor = x) -> Tensor:
            return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

        def folded(conv: Any = conv, x: Tensor = x, kernel: Tensor = kernel) -> Tensor:
            return ops.upsample_conv(x, kernel, conv.bias)

        yield "doubling", f"{width} wide, {side} x {side}", plain, folded


def whole_unet() -> Pair:
    """A forward pass of the released sizes; context and time told beforehand, as in drawing."""
    plain = drawn(LdmUNet(LdmUNetConfig()))
    fused = FusedUNet(plain)
    x, t, context = a_map(1, 3, 64, 64), torch.tensor([500]), torch.randn(1, 65, 512)
    times, told = fused.times(t), fused.condition(context)
    return "U-Net", "released", lambda: plain(x, t, context), lambda: fused(x, times, told)


def whole_decoder() -> Pair:
    """VQ-f4 to 256 x 256 pixels."""
    plain = drawn(VqAutoencoder(VqConfig()))
    fused, latent = FusedVqDecoder(plain), a_map(1, 3, 64, 64)
    return "VQ-f4 decoder", "released", lambda: plain.decode(latent), lambda: fused(latent)


def _took(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def measure(pair: Pair, rounds: int) -> Row:
    """Compare, then time in turns."""
    subject, setting, plain, folded = pair
    wanted = plain()
    error = float(torch.linalg.norm(folded() - wanted) / torch.linalg.norm(wanted))
    assert error < CLOSE, f"{subject} {setting}: folded is off by {error:.1e}, no speed"
    pairs = [(_took(plain), _took(folded)) for _ in range(rounds)]
    ratios = [a / b for a, b in pairs]
    median = statistics.median(b for _, b in pairs)
    note = f"off by {error:.1e}; folded {median:.4g} s of process time, one thread"
    extremes = (min(ratios), max(ratios), rounds)
    value = statistics.median(ratios)
    return Row(
        "kernel_speed_cpu", subject, setting, "plain_over_folded", value, "1", *extremes, note
    )


@torch.inference_mode()
def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--unet", action="store_true")
    parser.add_argument("--decoder", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    whole = [make for make in (whole_unet, whole_decoder) if getattr(options, make.__name__[6:])]
    for pair in (*sub_blocks(), *(make() for make in whole)):
        row = measure(pair, options.rounds if pair[1] != "released" else 3)
        print(f"{row.subject:16} {row.setting:26} {row.value:5.2f} {row.note}", flush=True)
        write("kernel_speed_cpu", [row])


if __name__ == "__main__":
    main()
