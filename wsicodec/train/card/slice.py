"""One slice: from a packed folder and what the last slice left, for so many seconds."""

import csv
import json
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.train.card import archive, state
from wsicodec.train.card.codec import refit
from wsicodec.train.card.deck import Deck
from wsicodec.train.card.loop import Every, StageRun
from wsicodec.train.card.plan import Clock, Plan
from wsicodec.train.card.stages import new_stage
from wsicodec.train.card.state import Standing
from wsicodec.train.card.tissue import load_index, load_pictures
from wsicodec.train.config import load_config, to_record

ENDING = 20.0  # seconds kept for writing at the end, or a tenth of a short slice
FILES = 8  # that may come back
COLUMNS = ("stage", "seen", "seconds", "term", "value")


@dataclass(frozen=True, slots=True)
class SliceOptions:
    """Where a slice reads and writes, and for how long."""

    pack: Path
    out: Path
    state: Path
    plan: Path
    seconds: float
    device: str = "cuda"
    threads: int = 1  # for decoding pictures
    commit: str = ""  # of the code, for the record


@dataclass
class Trace:
    """What the record says besides where the plan stands."""

    rows: list[tuple[str, int, float, str, float]] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)  # seconds, by what took them
    steps: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, since: float) -> None:
        """Count the seconds from `since` until now."""
        self.spent[name] = self.spent.get(name, 0.0) + time.monotonic() - since


class Slice:
    """The plan's stages in turn, until the slice's time is over."""

    def __init__(self, options: SliceOptions, started: float) -> None:
        """`started` is when the command began, on the monotonic clock."""
        self.options, self.trace = options, Trace()
        self.ends = started + options.seconds - min(ENDING, options.seconds / 10)
        plan = load_config(Plan, options.plan)
        device = torch.device(options.device)
        _prepare(device, plan)
        index = load_index(options.pack)
        self.deck, self.standing, self.training = _deck(options, index, device, plan)
        if self.standing.progress >= 1:
            raise ConfigError("the plan is done; collect its weights, or write another plan")
        self._check_room()
        self.trace.add("reading", started)
        self.standing.begun += 1
        last = max(min(self.standing.begun / plan.slices, 1.0), self.standing.progress)
        self.clock = Clock(time.monotonic(), self.ends, self.standing.progress, last)
        self.save_clock, self.log_clock = Every(plan.save_seconds), Every(plan.log_seconds)

    def _check_room(self) -> None:
        """Refuse before training, not after it, what could not be brought back."""
        sizes = [t.numel() * 2 for group in self.deck.weights.values() for t in group.values()]
        if sum(sizes) > (FILES - 4) * archive.PART:
            raise ConfigError(
                f"expected weights that fit into {FILES - 4} files, got {sum(sizes)} bytes"
            )

    def run(self) -> None:
        """Train, then write what comes back."""
        plan = self.deck.plan
        for number in range(len(plan.stages)):
            if self.standing.progress >= plan.bounds(number)[1]:
                continue
            self._stage(number)
            if self.standing.progress >= self.clock.last or time.monotonic() >= self.ends:
                break
        self._write()

    def _stage(self, number: int) -> None:
        """One stage, from where it stands to its end or the slice's."""
        plan, standing = self.deck.plan, self.standing
        planned, (first, last) = plan.stages[number], plan.bounds(number)
        name, training = planned.stage, self.training
        began = time.monotonic()

        def within(progress: float) -> float:
            return (progress - first) / (last - first)

        def round_at(progress: float) -> int:
            done = int(within(progress) * plan.rounds)
            return number * plan.rounds + min(max(done, 0), plan.rounds - 1)

        current = round_at(standing.progress)
        fresh = planned.fresh and standing.batches.get(name, 0) == 0
        stage = new_stage(planned, self.deck, current, fresh=fresh)
        run = StageRun(stage, self.deck, standing.seen.get(name, 0), standing.batches.get(name, 0))
        if training is not None:
            run.restore(training)
        self.training = None
        if plan.compile:
            run.compile()
        if not fresh:
            _refresh(run)
        self.trace.add(f"{name}: tissue", began)
        renew, before = Every(plan.renew), time.monotonic()
        while run.steps == 0 or standing.progress < min(last, self.clock.last):
            due = round_at(standing.progress)
            if due != current or renew.due():
                since = time.monotonic()
                if due != current:
                    stage.renew(due)
                    current = due
                _refresh(run)
                self.trace.add(f"{name}: tissue", since)
            run.step(within(standing.progress))
            now = time.monotonic()
            standing.progress = min(self.clock.progress(now), last)
            standing.seconds[name] = standing.seconds.get(name, 0.0) + now - before
            before = now
            self._keep(name, run)
        self.trace.add(f"{name}: all", began)
        self._end(name, run, done=standing.progress >= last)

    def _keep(self, name: str, run: StageRun) -> None:
        """Log and save on their clocks."""
        standing = self.standing
        standing.seen[name], standing.batches[name] = run.seen, run.batches
        if self.log_clock.due():
            self._log(name, run)
        if self.save_clock.due():
            state.save(self.options.state, self.deck, standing, run.state())

    def _log(self, name: str, run: StageRun) -> None:
        seconds = round(self.standing.seconds[name], 1)
        means = run.means()
        self.trace.rows += [(name, run.seen, seconds, k, v) for k, v in means.items()]
        if means:
            print(f"{name} {run.seen} {seconds} s, loss {means['loss']:.4g}", flush=True)

    def _end(self, name: str, run: StageRun, *, done: bool) -> None:
        """Keep the stage's averages as the networks that later stages, or home, will use."""
        self._log(name, run)
        standing, stage = self.standing, run.stage
        self.trace.steps[name] = run.steps
        with run.averaged(), torch.no_grad():
            if done:
                stage.finish()
            average = {k: v.clone() for k, v in stage.model.state_dict().items()}
            self.sheet = stage.sheet()
        for group, tensors in stage.groups(average).items():
            self.deck.weights[group] = {k: v.float() for k, v in tensors.items()}
            standing.trained = sorted({*standing.trained, group})
        if done and name == "embedder":
            since = time.monotonic()
            refit(self.deck)
            self.trace.add("tables", since)
        training = {} if done else run.state()
        state.save(self.options.state, self.deck, standing, training)

    def _write(self) -> None:
        """Write the averages, the log, the sheet and the record."""
        out, deck = self.options.out, self.deck
        out.mkdir(parents=True, exist_ok=True)
        tensors = {
            f"{group}.{k}": v
            for group in self.standing.trained
            for k, v in deck.weights[group].items()
        }
        arrays = archive.to_arrays(tensors, half=True)
        arrays |= {f"tables.{k}": v for k, v in deck.tables.to_tensors().items()}
        archive.save_parts(out, "weights", arrays)
        with (out / "log.csv").open("w", newline="", encoding="utf-8") as lines:
            rows = csv.writer(lines)
            rows.writerow(COLUMNS)
            rows.writerows((*row[:4], f"{row[4]:.5g}") for row in self.trace.rows)
        Image.fromarray(self.sheet).save(out / "sheet.png")
        (out / "record.json").write_text(json.dumps(self.record(), indent=1) + "\n", "utf-8")

    def record(self) -> dict[str, Any]:
        """All that says how these weights came about."""
        deck = self.deck
        card = deck.device.type == "cuda"
        configs = {s.stage: to_record(deck.config(s)) for s in deck.plan.stages}
        return asdict(self.standing) | {
            "machine": torch.cuda.get_device_name(deck.device) if card else platform.machine(),
            "torch": torch.__version__,
            "commit": self.options.commit,
            "plan": to_record(deck.plan),
            "configs": deck.configs | configs,
            "scale": deck.scale,
            "steps": self.trace.steps,
            "spent": {k: round(v, 1) for k, v in self.trace.spent.items()},
            "memory": torch.cuda.max_memory_allocated(deck.device) if card else 0,
        }


def _refresh(run: StageRun) -> None:
    with run.averaged(), torch.no_grad():
        run.stage.refresh()


def _prepare(device: torch.device, plan: Plan) -> None:
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise ConfigError('expected a card, found none; to rehearse, say "--device cpu"')
    reduced = plan.precision != "float32"
    torch.set_float32_matmul_precision("high" if reduced else "highest")
    torch.backends.cudnn.allow_tf32 = reduced
    torch.backends.cudnn.benchmark = True


def _deck(
    options: SliceOptions, index: dict[str, Any], device: torch.device, plan: Plan
) -> tuple[Deck, Standing, archive.Arrays | None]:
    """Pictures from the pack; networks and standing from the state, or else from the pack."""
    threads = options.threads or os.cpu_count() or 1
    pictures = load_pictures(options.pack, index, device, plan.pictures, threads)
    packed = archive.load_parts(options.pack, "weights")
    tables = {k.removeprefix("tables."): v for k, v in packed.items() if k.startswith("tables.")}
    deck = Deck(
        device=device,
        plan=plan,
        configs=index["configs"],
        pictures=pictures,
        weights={},
        tables=EmbeddingTables.from_tensors(tables),
        scale=float(index["scale"]),
    )
    state.take_weights(deck, {k: v for k, v in packed.items() if not k.startswith("tables.")})
    kept = state.load(options.state, plan)
    if kept is None:
        return deck, Standing.of(index["standing"]), None
    arrays, facts = kept
    training = state.restore(deck, arrays, facts)
    return deck, Standing.of(facts), training or None
