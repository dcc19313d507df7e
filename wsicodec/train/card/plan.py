"""What a card does with its time: stages one after another, each for a share of it."""

from dataclasses import dataclass, field
from typing import Any

from wsicodec.errors import ConfigError

STAGES = ("embedder", "autoencoder", "zoomldm", "distill")
PRECISIONS = ("bf16", "tf32", "float32")


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage."""

    stage: str
    share: float  # of the plan's time, in proportion to the other stages'
    settings: dict[str, Any] = field(default_factory=dict)  # laid over the packed configuration;
    # of its `rate`, the total stands for all of the stage's time
    fresh: bool = False  # begin with new networks of the sizes that `settings` name

    def __post_init__(self) -> None:
        if self.stage not in STAGES or not self.share > 0:
            raise ConfigError(
                f"expected a stage of {', '.join(STAGES)} with a positive share, "
                f"got {self.stage!r} with {self.share}"
            )


@dataclass(frozen=True, slots=True)
class Plan:
    """All slices together."""

    stages: tuple[StagePlan, ...]
    slices: int = 3  # runs that the plan is spread over
    variants: int = 12  # copies of the pictures in memory, each turned and stained in its own way
    pictures: int = 0  # how many are used; 0: all
    renew: float = 60.0  # seconds of a stage after which parents are drawn anew
    rounds: int = 2  # times that a stage makes all its variants anew
    precision: str = "bf16"  # on a card; elsewhere everything is single
    compile: bool = False  # networks by torch.compile: costs a minute, pays in long stages
    seed: int = 0
    save_seconds: float = 60.0
    log_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.stages or self.slices < 1 or self.variants < 1 or self.rounds < 1:
            raise ConfigError("expected stages, and at least one slice, one variant and one round")
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"expected a precision of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )

    def bounds(self, number: int) -> tuple[float, float]:
        """Where stage `number` begins and ends, as shares of the whole."""
        total = sum(s.share for s in self.stages)
        before = sum(s.share for s in self.stages[:number])
        last = number == len(self.stages) - 1
        return before / total, 1.0 if last else (before + self.stages[number].share) / total


@dataclass(frozen=True, slots=True)
class Clock:
    """The plan's progress as a function of time, so that a slice ends when its time does.

    began, ends: seconds on any monotonic clock
    first, last: progress of the whole plan, 0 to 1, at these
    """

    began: float
    ends: float
    first: float
    last: float

    def progress(self, now: float) -> float:
        """Progress at `now`."""
        passed = (now - self.began) / max(self.ends - self.began, 1e-9)
        return self.first + (self.last - self.first) * min(max(passed, 0.0), 1.0)


def overlaid(record: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A nested record with other settings laid over it."""
    out = dict(record)
    for key, value in settings.items():
        below = out.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        out[key] = overlaid(below, value) if both and isinstance(below, dict) else value
    return out
