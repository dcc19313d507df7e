"""Every fused op and the published networks on a card, in one command of at most ten minutes.

    python -m benchmarks.kernel_speed                       all, on the card at hand
    python -m benchmarks.kernel_speed --only attention      some ops
    python -m benchmarks.kernel_speed --seconds 570         when to stop; what was left out is said
    python -m benchmarks.kernel_speed --dry                 on a CPU: correctness alone, no speeds

Correctness comes first: the answer against float32 (TF32 off), twice the same bits, and the same
bits for an item alone as in a batch. A red op has no speed. Then ours and its rivals take turns,
the cache emptied between them; a row holds the median of the rounds with their extremes, and the
ratio of every rival's median to ours. Rows to benchmarks/results/kernel_speed.csv with card,
versions and commit.
"""

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.kernel_cases import Draw, cases
from benchmarks.kernel_contests import Contest, conditioning, doubling, error, of_case
from benchmarks.kernel_forward import forwards
from benchmarks.record import Row, write
from wsicodec.ops.dispatch import HAS_KERNELS

BATCHES = (1, 8, 32)
ROUNDS = 9
OWN = {"condition": conditioning, "upsample_conv": doubling}  # rivals of another form than ours
Make = Callable[[int, Draw], Contest]


def contests(only: str) -> Iterator[tuple[str, Make]]:
    """What is to be measured, the most telling first: op and what makes it for a batch."""
    shapes = ((1024, 384), (256, 576), (64, 960))
    doubled = ((32, 384), (16, 576), (8, 960), (64, 512))
    found: list[tuple[str, Make]] = [
        *(("condition", partial(conditioning, *shape)) for shape in shapes),
        *(("upsample_conv", partial(doubling, *shape)) for shape in doubled),
    ]
    found += [(case.op, partial(of_case, case)) for case in cases() if case.op not in OWN]
    yield from ((op, make) for op, make in found if only in op)


class OutOfTimeError(RuntimeError):
    """The time that was given is over."""


def _stop(*_: Any) -> None:
    raise OutOfTimeError


@dataclass(frozen=True)
class Stand:
    """The machine and what is asked of it."""

    draw: Draw
    until: float  # seconds of the monotonic clock
    dry: bool
    compiles: bool = True

    @property
    def card(self) -> str:
        """The device's name."""
        return "CPU" if self.dry else torch.cuda.get_device_name()

    @property
    def versions(self) -> str:
        """What a speed depends on."""
        cuda = f"CUDA {torch.version.cuda} cuDNN {torch.backends.cudnn.version()}"
        triton = sys.modules.get("triton")
        return f"torch {torch.__version__} triton {getattr(triton, '__version__', '-')} {cuda}"

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
        except RuntimeError:
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


def timed(runs: dict[str, Callable[[], Any]]) -> dict[str, list[float]]:
    """Seconds of every run, in turns; a run that its library refuses is left out."""
    empty = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    found: dict[str, list[float]] = {}
    for name, run in runs.items():
        try:
            for _ in range(3):
                run()
            found[name] = []
        except RuntimeError:
            print(f"    {name}: does not run here")
    for _ in range(ROUNDS):
        for name, times in found.items():
            empty.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            runs[name]()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
    return found


def speeds(stand: Stand, contest: Contest, setting: str) -> list[Row]:
    """Ours, its rivals and their ratios."""
    rivals = dict(contest.rivals)
    if stand.compiles:
        eager = rivals["eager"]
        torch._dynamo.reset()  # or the limit on recompilations is met, silently
        rivals["torch.compile max-autotune"] = torch.compile(
            lambda: eager(),  # noqa: PLW0108  # it may be a partial, which has no code
            mode="max-autotune-no-cudagraphs",
            dynamic=False,
        )
    with torch.inference_mode():
        found = timed({"ours": contest.ours, **rivals})
    ours, rows = statistics.median(found["ours"]), []
    for name, times in found.items():
        median, more = statistics.median(times), {"low": min(times), "high": max(times)}
        where = f"{setting}, {name}"
        rows.append(
            stand.row(contest.title, where, "seconds", median, unit="s", runs=ROUNDS, **more)
        )
        if name != "ours":
            rows.append(stand.row(contest.title, where, "rival_over_ours", median / ours))
    per = {"bytes_per_second": contest.bytes, "flop_per_second": contest.flops}
    rows += [stand.row(contest.title, setting, m, n / ours) for m, n in per.items() if n]
    return rows


def ceilings(stand: Stand) -> list[Row]:
    """Copy bandwidth and the rate of a large product."""
    x = torch.empty(1 << 29, dtype=torch.bfloat16, device="cuda")
    y, square = torch.empty_like(x), torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    found = timed({"copy": lambda: y.copy_(x), "product": lambda: square @ square})
    rates = {"copy": 2 * 2 * x.numel(), "product": 2 * 8192**3}
    return [
        stand.row("ceiling", name, "per_second", n / statistics.median(found[name]))
        for name, n in rates.items()
    ]


def measure(stand: Stand, make: Make, batch: int) -> bool:
    """One op at one batch: judge, then time and write; whether it is green."""
    contest = make(batch, stand.draw)
    off, red = judged(contest)
    red = red or alone(make, batch, stand.draw)
    with torch.inference_mode():
        red = red or ", ".join(astray(contest))
    print(f"{contest.title}, batch {batch}: {red or 'green'}, off by {off:.1e}", flush=True)
    if stand.dry:
        return not red
    setting = f"batch {batch}, bfloat16"
    verdict = stand.row(contest.title, setting, "error", off, note=red or "green")
    rows = [verdict] if red else [verdict, *speeds(stand, contest, setting)]
    for row in rows:
        print(f"    {row.setting}: {row.metric} {row.value:.4g} {row.unit}", flush=True)
    write("kernel_speed", rows)
    return not red


def programme(only: str, batches: list[int], *, dry: bool) -> Iterator[tuple[Make, int, bool]]:
    """What is measured in which order: contest, batch, and whether its rival is compiled.

    Compiling a whole forward pass takes minutes, so it comes last.
    """
    whole = forwards(small=dry) if only in "forward" else []
    sizes = batches[:1] if dry else batches
    yield from ((make, batch, False) for make in whole for batch in sizes)
    yield from ((make, batch, True) for _, make in contests(only) for batch in reversed(sizes))
    if not dry:
        yield from ((make, batch, True) for make in whole for batch in reversed(sizes))


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 if anything is red."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dry", action="store_true", help="no card: correctness alone")
    parser.add_argument("--only", default="", help='part of an op\'s name, or "forward"')
    parser.add_argument("--batches", type=int, nargs="*", default=list(BATCHES))
    parser.add_argument("--seconds", type=float, default=570.0)
    options = parser.parse_args(arguments)
    if not options.dry and not (torch.cuda.is_available() and HAS_KERNELS):
        print("expected a CUDA device and Triton, found none: no speeds; --dry checks answers")
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    draw = Draw("cpu", torch.float32) if options.dry else Draw("cuda", torch.bfloat16)
    stand = Stand(draw, time.monotonic() + options.seconds, options.dry)
    if not options.dry:
        signal.signal(signal.SIGALRM, _stop)  # a compiler may take longer than there is time
        signal.setitimer(signal.ITIMER_REAL, options.seconds)
        write("kernel_speed", ceilings(stand))
    green = True
    for make, batch, compiles in programme(options.only, options.batches, dry=options.dry):
        try:
            if time.monotonic() > stand.until:
                raise OutOfTimeError
            green &= measure(replace(stand, compiles=compiles), make, batch)
        except OutOfTimeError:
            print(f"left out for want of time: batch {batch} of", make)
        if not options.dry:
            torch.cuda.empty_cache()
    return int(not green)


if __name__ == "__main__":
    sys.exit(main())
