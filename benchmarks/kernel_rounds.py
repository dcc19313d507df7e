"""Judging and timing of one contest of `kernel_speed`: correctness first, then turns.

On a CPU times are of the clock and one round is taken: that rehearses the code and measures
nothing.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernel_cases import Draw
from benchmarks.kernel_contests import Contest, error, of_case
from benchmarks.record import Row

ROUNDS = 9
Make = Callable[[int, Draw], Contest]


@dataclass(frozen=True)
class Stand:
    """The machine and what is asked of it."""

    draw: Draw
    dry: bool = False  # answers alone

    @property
    def on_card(self) -> bool:
        """Whether what is timed runs on a card."""
        return self.draw.device == "cuda"

    @property
    def card(self) -> str:
        """The device's name."""
        return torch.cuda.get_device_name() if self.on_card else "CPU"

    @property
    def kind(self) -> str:
        """The type that is measured, as it stands in a setting."""
        return str(self.draw.dtype).removeprefix("torch.")

    @property
    def versions(self) -> str:
        """What a speed depends on."""
        cuda = f"CUDA {torch.version.cuda} cuDNN {torch.backends.cudnn.version()}"
        try:
            triton = version("triton")  # as installed: it is imported only once a kernel starts
        except PackageNotFoundError:
            triton = "-"
        return f"torch {torch.__version__} triton {triton} {cuda}"

    def row(self, title: str, setting: str, metric: str, value: float, **more: Any) -> Row:
        """A row of this card."""
        more = {"unit": "1", "machine": self.card, "versions": self.versions} | more
        return Row("kernel_speed", title, setting, metric, value, **more)


def judged(contest: Contest) -> tuple[float, str]:
    """Error of ours, and why it is red: empty if it is green."""
    with torch.inference_mode():
        first, again = contest.ours(), contest.ours()
        off = error(first, contest.truth())
    if not off <= contest.tolerance:
        return off, f"off by {off:.1e}, {contest.tolerance:.1e} allowed"
    pairs = zip(_flat(first), _flat(again), strict=True)
    if not all(torch.equal(a, b) for a, b in pairs):
        return off, "differs from itself"
    return off, ""


def astray(contest: Contest) -> list[str]:
    """Rivals that answer another question than ours; those that do not run are no rivals."""
    found, true = [], contest.truth()
    for name, run in contest.rivals.items():
        try:
            off = error(run(), true)
        except Exception:  # noqa: BLE001, what a library cannot run is no rival
            continue
        if not off <= 2 * contest.tolerance:
            found.append(f"{name} is off by {off:.1e}")
    return found


def alone(make: Make, batch: int, draw: Draw) -> str:
    """Why an op depends on the batch: empty if it does not.

    Arguments are drawn by shape, so the same item is cut from a batch's by running it both ways
    where the op takes a batch of maps or tokens first.
    """
    from wsicodec.ops.forms import FORMS

    if not isinstance(make, partial) or make.func is not of_case or batch == 1:
        return ""
    case = make.args[0]
    if case.op in ("blend_windows", "project_symbols", "nearest_entry", "guided_step"):
        return ""
    arguments = case.make(batch, draw)
    one = tuple(
        a[:1] if isinstance(a, Tensor) and a.ndim > 1 and len(a) == batch else a for a in arguments
    )
    with torch.inference_mode():
        whole, item = FORMS[f"_{case.op}"](*arguments), FORMS[f"_{case.op}"](*one)
    same = all(torch.equal(a[:1], b) for a, b in zip(_flat(whole), _flat(item), strict=True))
    return "" if same else "an item's bits depend on the batch"


def _flat(answer: Any) -> tuple[Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)


def turns(run: Callable[[], Any], *, on_card: bool) -> float:
    """Seconds of one run."""
    if not on_card:
        begun = time.perf_counter()
        run()
        return time.perf_counter() - begun
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def timed(runs: dict[str, Callable[[], Any]], *, on_card: bool) -> dict[str, list[float]]:
    """Seconds of every run, in turns; a run that its library refuses is left out."""
    size = 256 << 20 if on_card else 1
    empty = torch.empty(size, dtype=torch.int8, device="cuda" if on_card else "cpu")
    found: dict[str, list[float]] = {}
    for name, run in runs.items():
        try:
            for _ in range(3 if on_card else 1):
                run()
            found[name] = []
        except Exception as trouble:
            if name == "ours":
                raise
            print(f"    {name}: does not run here: {type(trouble).__name__}", flush=True)
    for _ in range(ROUNDS if on_card else 1):
        for name, times in found.items():
            empty.zero_()
            times.append(turns(runs[name], on_card=on_card))
    return found


def compiled(contest: Contest, *, on_card: bool) -> dict[str, Callable[[], Any]]:
    """The contest's rival that a compiler makes faster; on a CPU, that it only traces."""
    plain = contest.rivals[contest.compiles]
    torch._dynamo.reset()  # or the limit on recompilations is met, silently
    how: dict[str, Any] = {"mode": contest.mode} if on_card else {"backend": "eager"}
    run = torch.compile(lambda: plain(), dynamic=False, **how)  # noqa: PLW0108  # may be a partial
    return {f"torch.compile {contest.mode}": run}


def speeds(stand: Stand, contest: Contest, setting: str, *, compiles: bool) -> list[Row]:
    """Ours, its rivals and their ratios."""
    rivals = contest.rivals | (compiled(contest, on_card=stand.on_card) if compiles else {})
    with torch.inference_mode():
        found = timed({"ours": contest.ours, **rivals}, on_card=stand.on_card)
    ours, rows = statistics.median(found["ours"]), []
    for name, times in found.items():
        median, more = statistics.median(times), {"low": min(times), "high": max(times)}
        where = f"{setting}, {name}"
        rows.append(
            stand.row(contest.title, where, "seconds", median, unit="s", runs=len(times), **more)
        )
        if name != "ours":
            rows.append(stand.row(contest.title, where, "rival_over_ours", median / ours))
    per = {"bytes_per_second": contest.bytes, "flop_per_second": contest.flops}
    rows += [stand.row(contest.title, setting, m, n / ours) for m, n in per.items() if n]
    return rows


def ceilings(stand: Stand) -> list[Row]:
    """Copy bandwidth and the rate of a large product."""
    where, kind = stand.draw.device, stand.draw.dtype
    size, side = (1 << 29, 8192) if stand.on_card else (1 << 10, 16)
    x = torch.empty(size, dtype=kind, device=where)
    y, square = torch.empty_like(x), torch.randn(side, side, device=where, dtype=kind)
    runs = {"copy": lambda: y.copy_(x), "product": lambda: square @ square}
    found = timed(runs, on_card=stand.on_card)
    rates = {"copy": 2 * x.element_size() * x.numel(), "product": 2 * side**3}
    return [
        stand.row("ceiling", name, "per_second", n / statistics.median(found[name]))
        for name, n in rates.items()
    ]
