"""The embedding diffusion model with gradients: the twin of `wsicodec.models.edm.EdmNetwork`.

Blocks are modulated by one projection of time, phase and octave plus a table of their own
(Chen et al. 2023, adaLN-single).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.models.blocks import zeroed
from wsicodec.models.edm import NORM_EPSILON, rotations
from wsicodec.models.edm_config import TIMES, EdmConfig, time_angles


class EdmBlock(nn.Module):
    """Attention with rotary positions, then an MLP, both modulated and gated."""

    def __init__(self, config: EdmConfig) -> None:
        super().__init__()
        width, hidden = config.width, config.mlp_ratio * config.width
        self.heads = config.heads
        self.table = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, told: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Map (n, tokens, width), modulated by (n, 6 * width)."""
        table = told.unflatten(1, (6, -1)) + self.table
        gain1, shift1, gate1, gain2, shift2, gate2 = table[:, :, None].unbind(1)
        x = x + gate1 * self._attention(_norm(x) * (1 + gain1) + shift1, turn)
        hidden = self.fc1(_norm(x) * (1 + gain2) + shift2).relu().square()
        return x + gate2 * self.fc2(hidden)

    def _attention(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(_rotate(q, *turn), _rotate(k, *turn), v)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class TrainableEdm(nn.Module):
    """Estimates clean windows; see `wsicodec.models.edm.EdmNetwork.clean` for what goes in."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: EdmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.inputs = nn.Linear(config.inputs, width)
        self.time1 = nn.Linear(config.told, width)
        self.time2 = nn.Linear(width, width)
        self.modulation = zeroed(nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(EdmBlock(config) for _ in range(config.depth))
        self.last = nn.Parameter(torch.zeros(2, width))
        self.outputs = zeroed(nn.Linear(width, config.channels))
        self.register_buffer("mean", torch.zeros(config.octaves, config.components))
        self.register_buffer("deviation", torch.ones(config.octaves, config.components))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        phase: Tensor,
        octave: Tensor,
        parent: Tensor,
        has_parent: Tensor,
        inside: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Estimate clean windows.

        Args:
            x: (n, h, w, 1 + k) with its noise.
            t: (n,) time in (0, 1].
            phase: (n,) OUTLINE or CONTENT.
            octave: (n,) of the cells.
            parent: (n, h, w, 1 + k); zeros where there is none.
            has_parent: (n,) 1 or 0.
            inside: (n, h, w) 1 or 0.

        Returns:
            The estimate (n, h, w, 1 + k) and the deviation (n, 1, 1, 1) that it is scaled by.
        """
        n, rows, columns, _ = x.shape
        time, flag = t[:, None, None, None], has_parent[:, None, None, None]
        told = flag.expand(-1, rows, columns, 1)
        tokens = self.inputs(torch.cat([x, parent * flag, told, inside[..., None]], -1))
        tokens = tokens.flatten(1, 2)
        modulation = self._told(t, phase, octave)
        turn = rotations(rows, columns, self.config.width // self.config.heads)
        turned = torch.from_numpy(turn[0]).to(x.device), torch.from_numpy(turn[1]).to(x.device)
        for block in self.blocks:
            tokens = block(tokens, modulation, turned)
        width = self.config.width
        gain, shift = (modulation[:, : 2 * width].unflatten(1, (2, -1)) + self.last).unbind(1)
        out = self.outputs(_norm(tokens) * (1 + gain[:, None]) + shift[:, None])
        power = (1 - time).square() + time.square()
        spread = time * power.rsqrt()
        return (1 - time) / power * x + spread * out.view(n, rows, columns, -1), spread

    def _told(self, t: Tensor, phase: Tensor, octave: Tensor) -> Tensor:
        angles = t[:, None] * torch.from_numpy(time_angles()).to(t.device)
        code = torch.cat(
            [
                angles.sin(),
                angles.cos(),
                F.one_hot(phase, 2).float(),
                F.one_hot(octave, self.config.octaves).float(),
            ],
            1,
        )
        assert code.shape[1] == 2 * TIMES + 2 + self.config.octaves
        return self.modulation(F.silu(self.time2(F.silu(self.time1(code)))))


def _norm(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPSILON)


def _rotate(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cosines - b * sines, a * sines + b * cosines], -1)
