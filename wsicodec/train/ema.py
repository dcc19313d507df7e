"""Weight averaging: what is shipped is the average, what trains is not."""

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of a module's parameters and floating buffers.

    Its memory grows with what was seen (a tenth of the samples so far, at most `half_life`), so
    early checkpoints are useful too; Karras et al. 2024 do likewise.
    """

    def __init__(self, model: nn.Module, half_life: float) -> None:
        """`half_life` is in patches seen."""
        self.half_life = half_life
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, batch: int, seen: int) -> None:
        """Move towards `model` after a step of `batch` patches, `seen` in all."""
        life = max(min(self.half_life, seen * 0.1), 1e-8)
        keep = 0.5 ** (batch / life)
        for name, value in model.state_dict().items():
            self.weights[name].lerp_(value, 1 - keep)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the average's state from a checkpoint."""
        for name, value in weights.items():
            self.weights[name].copy_(value)
