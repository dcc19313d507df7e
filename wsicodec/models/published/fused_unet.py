"""The published U-Net for drawing: the same function with fewer products and launches.

Against `unet.LdmUNet`, whose weights it holds: stacks of skips are never written, time is told by
one product for all blocks, keys and outputs of self-attention are folded away, cross-attention is
folded to two matrices of a context, made once for all steps (`condition`), and items without a
context skip it. Exact up to rounding; for one head, as published.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec import ops
from wsicodec.errors import ConfigError
from wsicodec.models.published.attention import SpatialTransformer
from wsicodec.models.published.fused import FusedResidual, FusedUpsample, bias_of, map_of, tokens_of
from wsicodec.models.published.unet import (
    Downsample,
    LdmUNet,
    ResBlock,
    Upsample,
    step_sinusoids,
)
from wsicodec.ops import folds


@dataclass(frozen=True)
class Told:
    """What every step of a batch shares: its contexts, folded."""

    conditions: tuple[folds.Condition, ...]  # of the transformers, in order


class FusedResBlock(nn.Module):
    """`unet.ResBlock`; the first convolution's bias travels with the time."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.norm, self.conv = block.in_layers[0], block.in_layers[2]
        skip = block.skip_connection
        last = cast(Any, block.out_layers)
        self.rest = FusedResidual(last[0], last[3], skip if isinstance(skip, nn.Conv2d) else None)

    def forward(self, x: Tensor, second: Tensor | None, time: Tensor) -> Tensor:
        """Map the stack of x and second, told (n, out_width), to (n, out_width, h, w)."""
        norm: Any = self.norm
        h = ops.group_norm(x, norm.weight, norm.bias, second=second, eps=norm.eps)
        h = F.conv2d(h, cast(Tensor, self.conv.weight), padding=1)
        return cast(Tensor, self.rest(x, second, h, time))


class FusedTransformer(nn.Module):
    """`attention.SpatialTransformer` of one head, folded."""

    both: Tensor
    attended: Tensor
    last: Tensor
    to_scores: Tensor
    to_offsets: Tensor
    to_answers: Tensor

    def __init__(self, layer: SpatialTransformer) -> None:
        super().__init__()
        block: Any = layer.transformer_blocks[0]
        if block.attn1.heads != 1:
            raise ConfigError(
                f"expected one head, as published, got {block.attn1.heads}: the folds do not "
                "exist for several; use the LdmUNet itself"
            )
        self.norm, self.proj_in, self.proj_out = layer.norm, layer.proj_in, layer.proj_out
        self.norm1, self.norm3, self.ff = block.norm1, block.norm3, block.ff.net
        self.cross_out = block.attn2.to_out[0]
        own, cross, normed = block.attn1, block.attn2, block.norm2
        folded = folds.fold_self_attention(
            (own.to_q.weight, None),
            own.to_k.weight,
            (own.to_v.weight, None),
            (own.to_out[0].weight, own.to_out[0].bias),
        )
        out = layer.proj_out.weight.flatten(1).double() @ self.ff[2].bias.double()
        matrices = folds.fold_projections(
            cross.to_q.weight,
            cross.to_k.weight,
            cross.to_v.weight,
            self.cross_out.weight,
            (normed.weight, normed.bias),
        )
        kind = folded.weight.dtype
        wide = torch.promote_types(kind, torch.float32)
        kept = {
            "both": folded.weight,
            "attended": folded.out_bias,
            "last": (bias_of(layer.proj_out) + out).to(kind),
        }
        names = ("to_scores", "to_offsets", "to_answers")
        kept |= {n: matrix.to(wide) for n, matrix in zip(names, matrices, strict=True)}
        for name, tensor in kept.items():
            self.register_buffer(name, tensor.detach(), persistent=False)

    def condition(self, context: Tensor) -> folds.Condition:
        """The two matrices of contexts (k, tokens, d)."""
        matrices = (self.to_scores, self.to_offsets, self.to_answers)
        return folds.fold_condition(context, matrices, self.cross_out.bias)

    def forward(self, x: Tensor, told: folds.Condition) -> Tensor:
        """Map (n, width, h, w), its last items told, to the same shape."""
        norm, width = self.norm, x.shape[1]
        h = ops.group_norm(x, norm.weight, norm.bias, eps=norm.eps, activate=False)
        tokens = F.linear(tokens_of(h), self.proj_in.weight.flatten(1), self.proj_in.bias)
        normal = self.norm1(tokens)
        both = F.linear(normal, self.both)
        tokens = ops.attention(
            both[..., :width], normal, both[..., width:], residual=tokens, bias=self.attended
        )
        tokens, normal = ops.condition(
            tokens, told, self.norm3.weight, self.norm3.bias, eps=self.norm3.eps
        )
        gated = ops.geglu(F.linear(normal, self.ff[0].proj.weight, self.ff[0].proj.bias))
        flat = torch.addmm(tokens.flatten(0, 1), gated.flatten(0, 1), self.ff[2].weight.T)
        out = F.linear(flat.view_as(tokens), self.proj_out.weight.flatten(1), self.last)
        return x + map_of(out, x)


class FusedUNet(nn.Module):
    """The noise in a latent, as an LdmUNet estimates it."""

    to_times: Tensor
    times_bias: Tensor

    def __init__(self, unet: LdmUNet) -> None:
        """Fold a network; its tensors are shared, so it must not be trained meanwhile.

        Raises:
            ConfigError: it has several heads.
        """
        super().__init__()
        self.config, self.time_embed = unet.config, unet.time_embed
        self.label_emb = getattr(unet, "label_emb", None)
        self.first, self.out = unet.input_blocks[0][0], unet.out  # type: ignore[index]
        blocks = [m for m in _layers(unet) if isinstance(m, ResBlock)]
        emb = [cast(nn.Linear, block.emb_layers[1]) for block in blocks]
        conv = [cast(nn.Conv2d, block.in_layers[2]) for block in blocks]
        biases = (bias_of(e) + bias_of(c) for e, c in zip(emb, conv, strict=True))
        for name, parts in (("to_times", (e.weight for e in emb)), ("times_bias", biases)):
            self.register_buffer(name, torch.cat([p.detach() for p in parts]), persistent=False)
        self.widths = [c.out_channels for c in conv]
        self.down, self.middle, self.up = (
            nn.ModuleList(nn.ModuleList(_fused(m) for m in cast(Any, stage)) for stage in stages)
            for stages in (list(unet.input_blocks)[1:], [unet.middle_block], unet.output_blocks)
        )

    def condition(self, context: Tensor) -> Told:
        """Fold contexts (k, tokens, context_width) once for all steps."""
        layers = (m for m in self.modules() if isinstance(m, FusedTransformer))
        return Told(tuple(layer.condition(context) for layer in layers))

    def times(self, t: Tensor, magnification: Tensor | None = None) -> Tensor:
        """What trained steps (n,) tell all blocks, side by side: a table if t is a way."""
        if (magnification is None) == (self.label_emb is not None):
            wanted = "a" if self.label_emb is not None else "no"
            raise ConfigError(f"these weights take {wanted} magnification beside the context")
        kind = self.to_times.dtype
        time = self.time_embed(step_sinusoids(t, self.config.width).to(kind))
        if magnification is not None and self.label_emb is not None:
            time = time + self.label_emb(magnification)
        return F.linear(F.silu(time), self.to_times, self.times_bias)

    def forward(self, x: Tensor, times: Tensor, told: Told) -> Tensor:
        """Estimate the noise.

        Args:
            x: noisy latents (n, c, h, w); h and w are multiples of 2 to the (grids - 1).
            times: rows (n, ...) of `times`.
            told: of the last k items by `condition`; the ones before have the null condition.
        """
        x = x.contiguous(memory_format=torch.channels_last)
        time, conditions = iter(times.split(self.widths, 1)), iter(told.conditions)
        x = self.first(x)
        skips = [x]
        for stage in self.down:
            x = _run(stage, x, None, time, conditions)
            skips.append(x)
        x = _run(self.middle[0], x, None, time, conditions)
        for stage in self.up:
            x = _run(stage, x, skips.pop(), time, conditions)
        norm: Any = self.out[0]
        x = ops.group_norm(x, norm.weight, norm.bias, eps=norm.eps)
        return cast(Tensor, self.out[2](x))


def _layers(unet: LdmUNet) -> list[nn.Module]:
    stages = (*unet.input_blocks, unet.middle_block, *unet.output_blocks)
    return [layer for stage in stages for layer in cast(nn.ModuleList, stage)]


def _fused(layer: nn.Module) -> nn.Module:
    match layer:
        case ResBlock():
            return FusedResBlock(layer)
        case SpatialTransformer():
            return FusedTransformer(layer)
        case Upsample():
            return FusedUpsample(layer.conv)
        case Downsample():
            return layer
    raise ConfigError(f"expected a layer of an LdmUNet, got {type(layer).__name__}")


def _run(stage: Any, x: Tensor, second: Tensor | None, time: Any, conditions: Any) -> Tensor:
    for layer in stage:
        if isinstance(layer, FusedResBlock):
            x, second = layer(x, second, next(time)), None
        elif isinstance(layer, FusedTransformer):
            x = layer(x, next(conditions))
        else:
            x = layer(x)
    return x
