"""What the kernels are to show on an H200: predictions and goals beside what was measured.

Predictions were made without a card, from operator counts and the ceilings of such a card
(780 TFLOP/s in bfloat16, 4.3 TB/s copied). A row that was not measured says so, and none is passed
over in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.kernel_contests import title_of
from benchmarks.kernel_forward import DECODER, UNET
from benchmarks.record import Row

SMALL = "small end to end"
OVER = "rival_over_ours"
_ATTENTION = "attention 384 wide, 1024 queries and keys"
_CONDITION = title_of("condition", (1024, 384))


@dataclass(frozen=True)
class Target:
    """One goal: a metric of a subject, over all settings that begin as given."""

    what: str
    subject: str
    setting: str
    metric: str
    goal: float
    predicted: float
    most: bool = False  # the goal is the most that is allowed, not the least
    over: str = ""  # setting of the ceiling that the figure is divided by


TARGETS = (
    Target("U-Net over eager, batch 32", UNET, "batch 32, bfloat16, eager", OVER, 1.8, 1.9),
    Target("U-Net over eager, batch 1", UNET, "batch 1, bfloat16, eager", OVER, 5.0, 5.0),
    Target(
        "U-Net over compile + SDPA, batch 32",
        UNET,
        "batch 32, bfloat16, torch.compile",
        OVER,
        1.15,
        1.22,
    ),
    Target(
        "attention 384 over the best SDPA", _ATTENTION, "batch 32, bfloat16, SDPA", OVER, 1.5, 1.6
    ),
    Target("conditioning over eager", _CONDITION, "batch 32, bfloat16, eager", OVER, 4.0, 4.5),
    Target(
        "conditioning over compile",
        _CONDITION,
        "batch 32, bfloat16, torch.compile",
        OVER,
        2.5,
        3.0,
    ),
    Target(
        "GroupNorm of copy bandwidth, 384 wide",
        "group_norm 384 wide, 32 x 32",
        "batch 32, bfloat16",
        "bytes_per_second",
        0.7,
        0.75,
        over="copy",
    ),
    Target(
        "GroupNorm of copy bandwidth, 512 wide",
        "group_norm 512 wide, 64 x 64",
        "batch 32, bfloat16",
        "bytes_per_second",
        0.7,
        0.75,
        over="copy",
    ),
    Target("VQ-f4 decode over eager", DECODER, "batch 8, bfloat16, eager", OVER, 2.5, 3.0),
    Target("small, tiles/s one by one", SMALL, "batch 16", "tiles_per_second_alone", 100, 200),
    Target("small, tiles/s batched", SMALL, "batch 16", "tiles_per_second", 3000, 4000),
    Target("small, p95 of a tile in s", SMALL, "batch 16", "seconds_p95", 0.010, 0.006, most=True),
)


def measured(target: Target, rows: Sequence[Row]) -> float | None:
    """The figure that is judged: of several rivals the strongest, of several settings the worst."""
    wanted = target.subject, target.metric
    found = [
        row.value
        for row in rows
        if (row.subject, row.metric) == wanted and _of(target.setting, row.setting)
    ]
    if not found:
        return None
    value = max(found) if target.most else min(found)
    if not target.over:
        return value
    ceiling = [r.value for r in rows if (r.subject, r.setting) == ("ceiling", target.over)]
    return value / ceiling[0] if ceiling else None


def _of(wanted: str, setting: str) -> bool:
    """Whether a setting is the wanted one, or of its kind ("SDPA" is any backend of it)."""
    return setting == wanted or setting.startswith(f"{wanted} ") or wanted == setting.split(";")[0]


def table(rows: Sequence[Row]) -> str:
    """All targets with prediction, goal, measurement and verdict."""
    lines = [f"{'':42} {'predicted':>10} {'goal':>10} {'measured':>10}"]
    for target in TARGETS:
        value = measured(target, rows)
        goal = f"{'<=' if target.most else '>='} {target.goal:g}"
        if value is None:
            told, verdict = "-", "not measured"
        else:
            told = f"{value:.4g}"
            holds = value <= target.goal if target.most else value >= target.goal
            verdict = "holds" if holds else "DOES NOT HOLD"
        lines.append(f"{target.what:42} {target.predicted:>10g} {goal:>10} {told:>10}  {verdict}")
    return "\n".join(lines)
