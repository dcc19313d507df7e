"""The VQ decoder for drawing: the same function as `vq.VqAutoencoder.decode`, folded.

The codebook stands behind the next 1x1 convolution already, doublings are parity convolutions,
keys and outputs of the attention are folded away, biases travel with the norms.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec import ops
from wsicodec.models.published.fused import FusedResidual, FusedUpsample, bias_of, map_of, tokens_of
from wsicodec.models.published.vq import CellAttention, Decoder, ResBlock, VqAutoencoder
from wsicodec.ops import folds


class FusedResBlock(nn.Module):
    """`vq.ResBlock`; the first convolution's bias travels with the second norm."""

    def __init__(self, block: ResBlock) -> None:
        super().__init__()
        self.norm, self.conv = block.norm1, block.conv1
        self.rest = FusedResidual(block.norm2, block.conv2, getattr(block, "nin_shortcut", None))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to (n, out_width, h, w)."""
        h = ops.group_norm(x, self.norm.weight, self.norm.bias, eps=self.norm.eps)
        h = F.conv2d(h, self.conv.weight, padding=1)
        return cast(Tensor, self.rest(x, None, h, self.conv.bias))


class FusedCellAttention(nn.Module):
    """`vq.CellAttention`, folded."""

    both: Tensor
    both_bias: Tensor
    attended: Tensor

    def __init__(self, layer: CellAttention) -> None:
        super().__init__()
        self.norm = layer.norm
        q, k, v, out = (
            (m.weight.flatten(1), bias_of(m)) for m in (layer.q, layer.k, layer.v, layer.proj_out)
        )
        folded = folds.fold_self_attention(q, k[0], v, out)
        assert folded.bias is not None  # the queries have one
        kept = {"both": folded.weight, "both_bias": folded.bias, "attended": folded.out_bias}
        for name, tensor in kept.items():
            self.register_buffer(name, tensor.detach(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width, h, w) to the same shape."""
        norm, width = self.norm, x.shape[1]
        h = ops.group_norm(x, norm.weight, norm.bias, eps=norm.eps, activate=False)
        normal = tokens_of(h)
        both = F.linear(normal, self.both, self.both_bias)
        mixed = ops.attention(
            both[..., :width],
            normal,
            both[..., width:],
            residual=tokens_of(x),
            bias=self.attended,
        )
        return map_of(mixed, x)


class FusedVqDecoder(nn.Module):
    """Latents to pixels, through the codebook."""

    codes: Tensor
    entries: Tensor

    def __init__(self, autoencoder: VqAutoencoder) -> None:
        """Fold a network's decoder; its tensors are shared, so it must not be trained meanwhile."""
        super().__init__()
        decoder: Decoder = autoencoder.decoder
        codes, after = autoencoder.quantize.embedding.weight, autoencoder.post_quant_conv
        wide = codes.double() @ after.weight.flatten(1).double().T
        entries = (wide + bias_of(after).double()).to(after.weight.dtype).detach()
        self.register_buffer("entries", entries, persistent=False)
        self.register_buffer("codes", codes.detach(), persistent=False)
        self.conv_in, self.norm_out, self.conv_out = (
            decoder.conv_in,
            decoder.norm_out,
            decoder.conv_out,
        )
        layers: list[nn.Module] = [
            FusedResBlock(decoder.mid.block_1),
            FusedCellAttention(decoder.mid.attn_1),
            FusedResBlock(decoder.mid.block_2),
        ]
        for grid in reversed(list(decoder.up)):
            layers += [FusedResBlock(block) for block in cast(Any, grid).block]
            if hasattr(grid, "upsample"):
                layers.append(FusedUpsample(cast(Any, grid).upsample.conv))
        self.layers = nn.ModuleList(layers)

    def forward(self, latent: Tensor) -> Tensor:
        """Quantise latents (n, c, h, w) and map them to pixels (n, 3, fh, fw), not clipped."""
        latent = latent.contiguous(memory_format=torch.channels_last)
        x = self.conv_in(ops.nearest_entry(latent, self.codes, self.entries))
        for layer in self.layers:
            x = layer(x)
        x = ops.group_norm(x, self.norm_out.weight, self.norm_out.bias, eps=self.norm_out.eps)
        return cast(Tensor, self.conv_out(x))
