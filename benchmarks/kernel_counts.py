"""Launches and products of one forward pass of the published networks, counted without a card.

    python -m benchmarks.kernel_counts        rows to benchmarks/results/kernel_counts.csv

Tensors are on PyTorch's "meta" device, so nothing is computed. A plain PyTorch operator counts as
one launch if it makes memory of its own; a fused op counts the kernels that its launcher starts on
the card that is asked for. cuDNN and cuBLAS may start more than one kernel for an operator.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from benchmarks.record import Row, write
from wsicodec.codec.draw_device import Pipeline, inputs, way_of
from wsicodec.models.bundle import load_bundle
from wsicodec.models.published.fused import lowered
from wsicodec.models.published.fused_unet import FusedUNet
from wsicodec.models.published.fused_vq import FusedVqDecoder
from wsicodec.models.published.registry import on_meta
from wsicodec.models.published.unet import LdmUNetConfig
from wsicodec.models.published.vq import VqConfig
from wsicodec.models.torch_backend import load_small
from wsicodec.ops.dispatch import assumed
from wsicodec.ops.forms import FORMS
from wsicodec_kernels.launch import recorded

CARD = "sm_90"
# Give a view, or memory that a kernel fills later.
_FREE = {
    *("view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "alias"),
    *("split", "split_with_sizes", "unsqueeze", "squeeze", "detach", "as_strided", "unbind"),
    *("empty", "empty_like", "new_empty", "empty_strided", "reshape", "flatten", "unflatten"),
    *("chunk", "lift_fresh", "numpy_T", "mT", "view_as"),
}


class Launches(TorchDispatchMode):
    """Counts launches by operator while it is entered."""

    def __init__(self, card: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.card = card
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        namespace, name = func.namespace, func._schema.name.split("::")[1]
        if namespace == "wsicodec":
            with assumed(self.card), recorded() as made:
                answer = FORMS[name](*args, **(kwargs or {}))
            assert made, f"{name} ran its reference on {self.card}: no launches to count"
            self.found[name.removeprefix("_")] += len(made)
            return answer
        if name not in _FREE:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def _attention_flop(q: Any, k: Any, *_: Any, **__: Any) -> int:
    """Products of scores and of values; keys as padded by the kernel for short contexts."""
    keys = k[1] if k[1] > 256 else 1 << (k[1] - 1).bit_length()
    return int(4 * q[0] * q[1] * q[2] * keys)


def _condition_flop(x: Any, scores_of: Any, *_: Any, **__: Any) -> int:
    """Products with both matrices, padding included, for the items that have a context."""
    return int(4 * scores_of[0] * x[1] * x[2] * scores_of[2])


def _upsample_flop(x: Any, kernel: Any, *_: Any, **__: Any) -> int:
    """Four parities of four taps."""
    return int(2 * x[0] * x[2] * x[3] * 16 * kernel[2] * kernel[5])


def _nearest_flop(latent: Any, codes: Any, *_: Any, **__: Any) -> int:
    """As a product of all cells with all codes."""
    return int(2 * latent[0] * latent[2] * latent[3] * codes[0] * codes[1])


def _no_flop(*_: Any, **__: Any) -> int:
    return 0


FORMULAS: dict[str, Callable[..., int]] = {
    "_attention": _attention_flop,
    "_condition": _condition_flop,
    "_upsample_conv": _upsample_flop,
    "_nearest_entry": _nearest_flop,
    **dict.fromkeys(("_group_norm", "_geglu", "_residual"), _no_flop),
    **dict.fromkeys(("_channel_norm", "_film_silu", "_guided_step", "_blend_windows"), _no_flop),
}
for _name, _formula in FORMULAS.items():
    register_flop_formula(getattr(torch.ops.wsicodec, _name))(_formula)


def measure(run: Callable[[], object], card: str = CARD) -> tuple[Counter[str], int]:
    """Launches by operator and FLOPs (two a product) of a call on meta tensors."""
    modes: list[AbstractContextManager[Any]] = [
        launches := Launches(card),
        flops := FlopCounterMode(display=False),
    ]
    for mode in modes:
        with torch.inference_mode(), mode:
            run()
    return launches.found, int(flops.get_total_flops())


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bfloat16, device="meta")


def unet_runs(tokens: int = 65) -> dict[str, Callable[[], Tensor]]:
    """One forward pass of the released U-Net for one tile, plain and fused.

    As drawing runs it: contexts and times are told once for all steps and are not counted.
    """
    plain: Any = on_meta(LdmUNetConfig()).requires_grad_(requires_grad=False)
    fused = lowered(FusedUNet(plain), torch.bfloat16)
    x, context = _empty(1, 3, 64, 64), _empty(1, tokens, 512)
    t = torch.empty((1,), device="meta")
    with torch.inference_mode():
        times, told = fused.times(t), fused.condition(context)
    return {
        "plain": lambda: plain(x.float(), t, context.float()),
        "fused": lambda: fused(x, times, told),
        "fused, times and contexts told anew": lambda: fused(
            x, fused.times(t), fused.condition(context)
        ),
    }


def decoder_runs() -> dict[str, Callable[[], Tensor]]:
    """One decoding of VQ-f4 for one tile, plain and fused."""
    plain: Any = on_meta(VqConfig()).requires_grad_(requires_grad=False)
    fused = lowered(FusedVqDecoder(plain), torch.bfloat16)
    latent = _empty(1, 3, 64, 64)
    return {"plain": lambda: plain.decode(latent.float()), "fused": lambda: fused(latent)}


def small_runs(steps: int) -> dict[str, Callable[[], Tensor]]:
    """One batch of `small` from bytes to bytes, and its networks alone as they are trained.

    The former makes its noise, locks colours and rounds as well, all in one CUDA graph; for the
    latter the host does that.
    """
    bundle, where = load_bundle(), torch.device("meta")
    pipeline = Pipeline(bundle, steps, where, torch.bfloat16, 1)
    given = [tensor.to(where) for tensor in inputs(bundle, torch.bfloat16, 1)]
    denoiser, renderer = load_small(bundle, where)
    parent, _, cond, *_ = given
    side, one = parent.shape[1] // 4, torch.ones(1, device=where)
    above, index = parent.permute(0, 3, 1, 2).float(), torch.ones(1, device=where).long()
    noise = torch.empty((1, bundle.latent_channels, side, side), device=where)
    told = cond[:, : bundle.embedding_width + 1].float()

    def plain() -> Tensor:
        x = noise
        for step in way_of(steps):
            x = step.keep * x + step.gain * denoiser(x, one, one, above, one, told, index)
        drawn: Tensor = renderer(x, above, one, index)
        return drawn

    return {"plain": plain, "fused": lambda: pipeline(*given)}


def rows(subject: str, runs: dict[str, Callable[[], Tensor]], card: str) -> list[Row]:
    """Launches and FLOPs of every run, and what the fused one has of the plain one's."""
    found = []
    counted = {name: measure(run, card) for name, run in runs.items()}
    for name, (launches, flops) in counted.items():
        most = ", ".join(f"{op} {n}" for op, n in launches.most_common(6))
        setting = f"{name}, {card}"
        own = (("launches", launches.total(), ""), ("forward", flops / 1e9, "GFLOP"))
        found += [Row("counts", subject, setting, m, v, u, note=most) for m, v, u in own]
        if name != "plain":
            base = counted["plain"]
            of = (launches.total() / base[0].total(), flops / base[1])
            for metric, value in zip(("launches_ratio", "flop_ratio"), of, strict=True):
                found.append(Row("counts", subject, setting, metric, value, "1"))
    return found


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--card", default=CARD, help="compute capability, such as sm_90")
    card = parser.parse_args().card
    found = [*rows("U-Net", unet_runs(), card), *rows("VQ-f4 decoder", decoder_runs(), card)]
    for steps in (1, 4):
        found += rows(f"small, {steps} steps", small_runs(steps), card)
    for row in found:
        print(f"{row.subject:14} {row.setting:45} {row.metric:15} {row.value:9.4g} {row.note}")
    print(write("kernel_counts", found))


if __name__ == "__main__":
    main()
