"""Forward passes of the published networks for `kernel_speed`: plain, folded, as a CUDA graph."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.kernel_cases import Draw
from benchmarks.kernel_contests import Contest
from wsicodec.models.cuda_graph import replayed
from wsicodec.models.published.fused import lowered
from wsicodec.models.published.fused_unet import FusedUNet
from wsicodec.models.published.fused_vq import FusedVqDecoder
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig
from wsicodec.models.published.vq import VqAutoencoder, VqConfig

UNET, DECODER = "U-Net forward", "VQ-f4 decode"
NARROW = "eager, narrow, channels last"  # the fairest rival: no casts, as published it has them
# Rounded a few hundred times, in series; of the norm of the answer.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
SMALL_UNET = LdmUNetConfig(
    width=32, multipliers=(1, 2), attention=(False, True), blocks=1, context_width=16
)
SMALL_VQ = VqConfig(codes=64, width=32, multipliers=(1, 1, 2), blocks=1)


def _drawn(module: nn.Module, device: str) -> Any:
    """Weights of a fixed seed that neither die nor explode."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        wide = parameter.ndim > 1
        std = parameter[0].numel() ** -0.5 if wide else 0.1
        nn.init.normal_(parameter, 0.0 if wide else 0.5, std)
    return module.eval().requires_grad_(requires_grad=False).to(device)


def _contest(
    title: str, runs: dict[str, Callable[[], Tensor]], truth: Callable[[], Tensor], draw: Draw
) -> Contest:
    ours = runs.pop("folded")
    if draw.device == "cuda":
        runs["folded, op by op"] = ours
        ours = replayed(ours, torch.device(draw.device))
    # A compiler is given what it does best with, and one that takes seconds, not half an hour.
    tolerance = TOLERANCE[draw.dtype]
    return Contest(title, ours, truth, runs, tolerance, compiles=NARROW, mode="default")


def narrowed(network: nn.Module, draw: Draw, inputs_of: str, *wide: str) -> Any:
    """The network in the type, channels last; some modules stay wide, one is given narrow inputs.

    Args:
        network: in float32.
        draw: says the type.
        inputs_of: the module whose inputs come in float32 and are narrowed.
        wide: modules that stay in float32.
    """
    made: Any = copy.deepcopy(network)
    made.to(dtype=draw.dtype, memory_format=torch.channels_last)
    for name in wide:
        getattr(made, name).float()
    getattr(made, inputs_of).register_forward_pre_hook(lambda _, args: (args[0].to(draw.dtype),))
    return made


def unet(config: LdmUNetConfig, side: int, batch: int, draw: Draw) -> Contest:
    """The U-Net; its reference under autocast, as published, and in the type throughout."""
    network: Any = _drawn(LdmUNet(config), draw.device)
    plain: Callable[..., Tensor] = network
    fused = lowered(FusedUNet(network), draw.dtype)
    x, t = draw.map(batch, 3, side, side), torch.full((batch,), 500, device=draw.device)
    context = draw(batch, 65, config.context_width)
    with torch.inference_mode():
        times, told = fused.times(t), fused.condition(context)

    def reference() -> Tensor:
        with torch.autocast(draw.device, draw.dtype, enabled=draw.device == "cuda"):
            return plain(x.float(), t, context.float())

    narrow = narrowed(network, draw, "time_embed")
    runs = {
        "eager": reference,
        NARROW: lambda: narrow(x, t, context),
        "folded": lambda: fused(x, times, told),
    }
    return _contest(UNET, runs, lambda: plain(x.float(), t, context.float()), draw)


def decoder(config: VqConfig, side: int, batch: int, draw: Draw) -> Contest:
    """The VQ decoder, likewise."""
    plain: VqAutoencoder = _drawn(VqAutoencoder(config), draw.device)
    fused = lowered(FusedVqDecoder(plain), draw.dtype)
    # Codes themselves, so that rounding does not choose others.
    index = draw.whole(batch, side, side, low=0, high=config.codes, dtype=torch.int64)
    latent = fused.codes[index].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)

    def reference() -> Tensor:
        with torch.autocast(draw.device, draw.dtype, enabled=draw.device == "cuda"):
            return plain.decode(latent)

    narrow = narrowed(plain, draw, "post_quant_conv", "quantize")
    runs = {
        "eager": reference,
        NARROW: lambda: narrow.decode(latent.float()),
        "folded": lambda: fused(latent),
    }
    return _contest(DECODER, runs, lambda: plain.decode(latent), draw)


def forwards(*, small: bool) -> dict[str, Callable[[int, Draw], Contest]]:
    """Both networks by title, as released or small ones of the same plan."""
    if small:
        return {UNET: partial(unet, SMALL_UNET, 8), DECODER: partial(decoder, SMALL_VQ, 8)}
    return {UNET: partial(unet, LdmUNetConfig(), 64), DECODER: partial(decoder, VqConfig(), 64)}
