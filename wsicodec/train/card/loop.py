"""The loop of one stage on a card: as `train.loop`, by time, without waiting for the device."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from wsicodec.errors import WsiCodecError
from wsicodec.models.autoencoder import Decoder, Encoder
from wsicodec.models.summarizer import Summarizer
from wsicodec.models.unet import UNet
from wsicodec.models.vit import VisionTransformer
from wsicodec.train.adversary import Critic
from wsicodec.train.card import archive
from wsicodec.train.card.deck import Deck
from wsicodec.train.card.stages import CardStage
from wsicodec.train.checkpoint import pack_optimizer, part, unpack_optimizer
from wsicodec.train.ema import Average
from wsicodec.train.learning_rate import rate
from wsicodec.train.loop import parameter_groups

AVERAGE_EVERY = 4  # steps: averaging walks all tensors one by one
COMPILED = (Encoder, Decoder, Critic, Summarizer, UNet, VisionTransformer)
COLD = 200  # steps over which an optimizer without a memory warms up


class StageRun:
    """A stage with its optimizer and its average."""

    def __init__(self, stage: CardStage, deck: Deck, seen: int, batches: int) -> None:
        """`seen` patches and `batches` batches came before."""
        self.stage, self.deck, self.seen, self.batches = stage, deck, seen, batches
        loop = stage.config.loop
        self.optimizer = torch.optim.AdamW(
            parameter_groups(stage),
            lr=stage.config.rate.peak,
            betas=loop.betas,
            weight_decay=loop.weight_decay,
            fused=deck.device.type == "cuda",
        )
        self.average = Average(stage.model, loop.average)
        self.unaveraged = 0  # patches since the average last moved
        self.steps = 0
        self.warm = False
        self.sums: dict[str, Tensor] = {}
        self.summed = 0

    def state(self) -> archive.Arrays:
        """All that `restore` needs."""
        self._settle()
        tensors = {f"model.{k}": v for k, v in self.stage.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.weights.items()}
        return archive.to_arrays(tensors | pack_optimizer(self.optimizer), half=False)

    def restore(self, arrays: archive.Arrays) -> None:
        """Go on where `state` was taken."""
        tensors = archive.to_tensors(arrays)
        self.stage.model.load_state_dict(part(tensors, "model."))
        self.average.load(part(tensors, "average."))
        unpack_optimizer(self.optimizer, tensors)
        self.warm = True

    def step(self, progress: float) -> None:
        """One update; `progress` of the stage, 0 to 1, sets the learning rate."""
        config = self.stage.config
        pace = rate(config.rate, int(progress * config.rate.total))
        pace *= 1.0 if self.warm else min(1.0, (self.steps + 1) / COLD)
        for group in self.optimizer.param_groups:
            group["lr"] = pace * group["pace"]
        batch = self.stage.batch(self.batches, config.loop.batch)
        self.optimizer.zero_grad(set_to_none=True)
        with self.deck.autocast():
            loss, terms = self.stage.loss(batch)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.stage.model.parameters(), config.loop.clip)
        self.optimizer.step()
        self.steps += 1
        self.batches += 1
        self.seen += config.loop.batch
        self.unaveraged += config.loop.batch
        if self.batches % AVERAGE_EVERY == 0:
            self._settle()
        rated = torch.tensor(pace)
        for name, value in {"loss": loss.detach(), **terms, "norm": norm, "rate": rated}.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.summed += 1

    def _settle(self) -> None:
        """Move the average by what was trained since it last moved."""
        if self.unaveraged:
            self.average.update(self.stage.model, self.unaveraged, self.seen)
            self.unaveraged = 0

    def means(self) -> dict[str, float]:
        """Means of what was logged since the last call; waits for the device.

        Raises WsiCodecError when the loss is no longer finite.
        """
        found = {k: float(v) / self.summed for k, v in self.sums.items()}
        self.sums, self.summed = {}, 0
        if found and not abs(found["loss"]) < float("inf"):
            raise WsiCodecError(
                f"expected a finite loss, got {found['loss']} after {self.seen} patches; "
                "go on from the last checkpoint with a lower rate"
            )
        return found

    def compile(self) -> None:
        """Compile the networks, whichever of their methods a loss calls."""
        for module in self.stage.model.modules():
            if isinstance(module, COMPILED):
                module.compile()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds the averaged weights meanwhile."""
        self._settle()
        model = self.stage.model
        training = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.average.weights)
        try:
            yield
        finally:
            model.load_state_dict(training)


class Every:
    """True once so many seconds have passed since it last was."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether it is time; if so, the next time is reckoned from now."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True
