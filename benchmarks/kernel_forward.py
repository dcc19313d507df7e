"""Forward passes of the published networks for `kernel_speed`: plain, folded, as a CUDA graph."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.kernel_cases import Draw
from benchmarks.kernel_contests import Contest
from wsicodec.models.published.fused import lowered
from wsicodec.models.published.fused_unet import FusedUNet
from wsicodec.models.published.fused_vq import FusedVqDecoder
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig
from wsicodec.models.published.vq import VqAutoencoder, VqConfig

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


def captured(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same launches as one CUDA graph, for one shape; answers lie in the same memory."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        answer = run()

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay


def _contest(
    title: str, runs: dict[str, Callable[[], Tensor]], truth: Callable[[], Tensor], draw: Draw
) -> Contest:
    ours = runs.pop("folded")
    if draw.device == "cuda":
        runs["folded, op by op"] = ours
        ours = captured(ours)
    return Contest(title, ours, truth, runs, TOLERANCE[draw.dtype])


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

    runs = {"eager": reference, "folded": lambda: fused(x, times, told)}
    return _contest("U-Net forward", runs, lambda: plain(x.float(), t, context.float()), draw)


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

    runs = {"eager": reference, "folded": lambda: fused(latent)}
    return _contest("VQ-f4 decode", runs, lambda: plain.decode(latent), draw)


def forwards(*, small: bool) -> list[Callable[[int, Draw], Contest]]:
    """Both networks, as released or small ones of the same plan."""
    if small:
        return [partial(unet, SMALL_UNET, 8), partial(decoder, SMALL_VQ, 8)]
    return [partial(unet, LdmUNetConfig(), 64), partial(decoder, VqConfig(), 64)]
