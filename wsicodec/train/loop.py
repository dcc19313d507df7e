"""The loop that every stage shares; progress is counted in patches seen."""

import csv
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from wsicodec.errors import ConfigError
from wsicodec.train import checkpoint
from wsicodec.train.ema import Average
from wsicodec.train.learning_rate import RateConfig, rate
from wsicodec.train.provenance import note_session

Sample = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How long, how fast, and how often something is written."""

    batch: int = 16  # patches per step, over all ranks and accumulation
    accumulate: int = 1  # parts that a rank splits its share of the batch into
    seed: int = 0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # largest norm of the gradient
    average: float = 20_000  # half-life of the weight average, patches
    log_every: int = 2_000  # patches
    save_seconds: float = 120.0
    sheet_seconds: float = 600.0
    stop_seconds: float = 1e9  # of this process; the run can be resumed afterwards
    stop_seen: int = 10**12  # patches
    device: str = "auto"  # or cpu, or cuda; auto takes a card where there is one
    precision: str = "auto"  # of the loss, or float32, or bf16; auto takes bf16 where a card has it


class Trained(Protocol):
    """What an optimizer needs to know of a stage."""

    @property
    def model(self) -> nn.Module:
        """What trains."""


class Stage(Trained, Protocol):
    """What a stage brings: a model, samples that depend on their index alone, and a loss."""

    def sample(self, index: int) -> Sample:
        """Arrays of sample `index`."""

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of a batch, and what should be logged."""

    def sheet(self) -> NDArray[np.uint8] | None:
        """A picture of where it stands, or None."""


@runtime_checkable
class Paced(Protocol):
    """A stage whose parts learn at different paces."""

    def paces(self) -> list[tuple[nn.Module, float]]:
        """Parts of the model and what multiplies their learning rate."""


@runtime_checkable
class Finished(Protocol):
    """A stage whose averaged weights want a last touch when the run is over."""

    def finish(self) -> None:
        """Complete the model, which holds the average; may be called again."""


def parameter_groups(stage: Trained) -> list[dict[str, Any]]:
    """What an optimizer is given: parameters, and what multiplies their learning rate."""
    parts = stage.paces() if isinstance(stage, Paced) else [(stage.model, 1.0)]
    return [
        {"params": [p for p in part.parameters() if p.requires_grad], "pace": pace}
        for part, pace in parts
    ]


def collate(samples: list[Sample]) -> dict[str, Tensor]:
    """Stack samples along a new first axis."""
    names = samples[0].keys()
    return {k: torch.from_numpy(np.stack([s[k] for s in samples])) for k in names}


class Run:
    """One run folder: model, optimizer, average and the count of patches seen."""

    def __init__(
        self, stage: Stage, loop: LoopConfig, learning: RateConfig, folder: Path, config: Any
    ) -> None:
        self.stage, self.loop, self.learning, self.folder = stage, loop, learning, folder
        self.config = config
        self.device = chosen_device(loop.device)
        self.autocast = uses_bf16(loop.precision, self.device)
        stage.model.to(self.device)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(stage),
            lr=learning.peak,
            betas=loop.betas,
            weight_decay=loop.weight_decay,
        )
        self.average = Average(stage.model, loop.average)
        self.seen = 0
        self.seconds = 0.0
        if (folder / checkpoint.NAME).exists():
            self.resume()

    def resume(self) -> None:
        """Continue at the exact sample where the last checkpoint stood."""
        tensors, facts = checkpoint.load(self.folder)
        self.stage.model.load_state_dict(checkpoint.part(tensors, "model."))
        self.average.load(checkpoint.part(tensors, "average."))
        checkpoint.unpack_optimizer(self.optimizer, tensors)
        self.seen, self.seconds = int(facts["seen"]), float(facts["seconds"])

    def save(self) -> None:
        """Write the checkpoint; ranks are equal, so the first one does it."""
        if rank_of_process()[0] != 0:
            return
        tensors = {f"model.{k}": v for k, v in self.stage.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.weights.items()}
        tensors |= checkpoint.pack_optimizer(self.optimizer)
        facts = {"seen": self.seen, "seconds": self.seconds, "config": self.config}
        checkpoint.save(self.folder, tensors, facts)

    def step(self) -> dict[str, float]:
        """One update from the next `batch` samples."""
        lr = rate(self.learning, self.seen)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["pace"]
        rank, ranks = rank_of_process()
        numbers = range(self.seen + rank, self.seen + self.loop.batch, ranks)
        parts = [numbers[i :: self.loop.accumulate] for i in range(self.loop.accumulate)]
        logs: dict[str, float] = {}
        self.optimizer.zero_grad(set_to_none=True)
        for numbers_of_part in parts:
            samples = collate([self.stage.sample(i) for i in numbers_of_part])
            batch = {k: v.to(self.device) for k, v in samples.items()}
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
                loss, terms = self.stage.loss(batch)
            share = len(numbers_of_part) / self.loop.batch
            (loss * share).backward()
            for name, value in {"loss": loss.detach(), **terms}.items():
                logs[name] = logs.get(name, 0.0) + float(value) * share * ranks
        _sum_gradients(self.stage.model, ranks)
        norm = nn.utils.clip_grad_norm_(self.stage.model.parameters(), self.loop.clip)
        self.optimizer.step()
        self.seen += self.loop.batch
        self.average.update(self.stage.model, self.loop.batch, self.seen)
        return logs | {"norm": float(norm), "rate": lr}

    def train(self) -> None:
        """Step until the configured end; log, save and draw on their clocks."""
        if rank_of_process()[0] == 0:
            note_session(self.folder, self.config, self.seen, self.device)
        started = saved = drawn = time.monotonic()
        before, values = self.seconds, defaultdict[str, list[float]](list)
        while self.seen < min(self.learning.total, self.loop.stop_seen):
            for name, value in self.step().items():
                values[name].append(value)
            now = time.monotonic()
            self.seconds = before + now - started
            if self.seen % self.loop.log_every < self.loop.batch:
                self.log({k: sum(v) / len(v) for k, v in values.items()})
                values.clear()
            if now - saved > self.loop.save_seconds:
                self.save()
                saved = now
            if now - drawn > self.loop.sheet_seconds:
                self.draw()
                drawn = now
            if _agree(now - started > self.loop.stop_seconds, self.device):
                break
        if self.seen >= self.learning.total:
            self._finish()
        self.save()
        self.draw()

    def _finish(self) -> None:
        if isinstance(self.stage, Finished):
            with self._averaged():
                self.stage.finish()
                self.average.load(self.stage.model.state_dict())

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The model holds the averaged weights meanwhile, where samples are: on the CPU."""
        model = self.stage.model
        training = {k: v.clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.average.weights)
        model.to("cpu")
        try:
            yield
        finally:
            model.to(self.device)
            model.load_state_dict(training)

    def log(self, values: dict[str, float]) -> None:
        """Append a row to the run's CSV."""
        if rank_of_process()[0] != 0:
            return
        row = {"seen": self.seen, "seconds": round(self.seconds, 1)}
        row |= {k: float(f"{v:.5g}") for k, v in values.items()}
        path = self.folder / "log.csv"
        self.folder.mkdir(parents=True, exist_ok=True)
        columns = _columns(path) if path.exists() else list(row)
        with path.open("a", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, columns, restval="", extrasaction="ignore")
            if lines.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def draw(self) -> None:
        """Write the stage's sheet, drawn with the averaged weights."""
        if rank_of_process()[0] != 0:
            return
        with self._averaged(), torch.no_grad():
            sheet = self.stage.sheet()
        if sheet is not None:
            Image.fromarray(sheet).save(self.folder / "sheet.png")


def _columns(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as lines:
        return lines.readline().strip().split(",")


def rank_of_process() -> tuple[int, int]:
    """This process's rank and the number of processes."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def chosen_device(name: str) -> torch.device:
    """The device of this process; under torchrun every one takes a card of its own.

    Raises ConfigError for a device that is unknown or not there.
    """
    cards = torch.cuda.device_count()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not cards):
        raise ConfigError(f"expected the device auto, cpu or cuda with {cards} cards, got {name!r}")
    if name == "cpu" or not cards:
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % cards)


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether losses are computed in bf16, weights and their average staying in single."""
    if precision not in ("auto", "float32", "bf16"):
        raise ConfigError(f"expected the precision auto, float32 or bf16, got {precision!r}")
    if precision != "auto":
        return precision == "bf16"
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def _agree(stop: bool, device: torch.device) -> bool:
    """Whether the first rank says so: clocks differ, and all ranks must leave the same step."""
    if rank_of_process()[1] == 1:
        return stop
    said = torch.tensor(float(stop), device=device)
    torch.distributed.broadcast(said, 0)
    return bool(said)


def _sum_gradients(model: nn.Module, ranks: int) -> None:
    """Add the ranks' gradients, all in one message: every message waits for the slowest rank."""
    if ranks == 1:
        return
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
