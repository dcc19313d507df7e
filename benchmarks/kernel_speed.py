"""Every fused op, the published networks and `small` on a card, in one command of ten minutes.

    PYTHONPATH=.:kernels python -m benchmarks.kernel_speed --out DIR    all, on the card at hand
    ... --only attention      what has this in its title
    ... --seconds 570         when to stop; what was left out is said, and the same command goes on
    ... --again               measure anew what the folder has rows of
    ... --dry                 on a CPU: correctness alone, no speeds
    ... --toy                 on a CPU: the whole programme on small sizes; its figures mean nothing

It needs torch, Triton and NumPy, from a plain checkout; no other package and no network.

Correctness comes first: the answer against float32 (TF32 off), twice the same bits, and the same
bits for an item alone as in a batch. A red op has no speed, and one that fails or hangs is red and
the rest goes on, in a fresh process where the card needs one. Then ours and its rivals take turns,
the cache emptied between them; a row holds the median of the rounds with their extremes, and the
ratio of every rival's median to ours. Rows go to kernel_speed.csv with card, versions and commit.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from benchmarks import kernel_small
from benchmarks.kernel_cases import Draw, cases
from benchmarks.kernel_contests import conditioning, doubling, of_case, title_of
from benchmarks.kernel_forward import DECODER, UNET, forwards
from benchmarks.kernel_rounds import Make, Stand, alone, astray, ceilings, judged, speeds
from benchmarks.kernel_targets import SMALL, TARGETS, table
from benchmarks.kernel_watch import Watch, all_green, read
from benchmarks.record import RESULTS, Row, write
from wsicodec.ops.dispatch import HAS_KERNELS

NAME = "kernel_speed"
BATCHES = (32, 1, 8)
OWN = {"condition": conditioning, "upsample_conv": doubling}  # rivals of another form than ours
FIRST = {target.subject for target in TARGETS}
TOY = ("condition 960", "attention 960 wide, 64 queries, 65", "guided_step", "channel_norm")


@dataclass(frozen=True)
class Entry:
    """One contest at one batch."""

    title: str
    make: Make
    batch: int
    compiles: bool  # whether a rival is compiled

    def setting(self, stand: Stand) -> str:
        """Batch and type."""
        return f"batch {self.batch}, {stand.kind}"


def contests() -> dict[str, Make]:
    """What is to be measured besides forward passes, by title."""
    shapes = {
        "condition": ((1024, 384), (256, 576), (64, 960)),
        "upsample_conv": ((32, 384), (16, 576), (8, 960), (64, 512)),
    }
    found: dict[str, Make] = {
        title_of(op, size): partial(OWN[op], *size)
        for op, sizes in shapes.items()
        for size in sizes
    }
    return found | {case.title: partial(of_case, case) for case in cases() if case.op not in OWN}


def programme(stand: Stand, *, toy: bool) -> Iterator[Entry]:
    """What is measured in which order: goals first, and what a compiler takes minutes for late."""
    small = not stand.on_card
    whole, parts = forwards(small=small), contests()
    if toy:
        parts = {title: make for title, make in parts.items() if title.startswith(TOY)}
    first = [title for title in parts if title in FIRST]
    rest = [title for title in parts if title not in FIRST]
    sizes = BATCHES[1:2] if small else BATCHES
    compiles = not stand.dry
    yield from (Entry(UNET, whole[UNET], batch, compiles=False) for batch in sizes[:2])
    yield Entry(DECODER, whole[DECODER], sizes[-1], compiles=False)
    yield from (Entry(title, parts[title], sizes[0], compiles) for title in first)
    if compiles:
        yield Entry(UNET, whole[UNET], sizes[0], compiles=True)
    yield from (Entry(title, parts[title], sizes[0], compiles) for title in rest)
    for batch in sizes[1:]:
        yield from (Entry(title, make, batch, compiles) for title, make in parts.items())


def measure(stand: Stand, entry: Entry) -> list[Row]:
    """One op at one batch: judge, then time; the first row says whether it is green."""
    contest, setting = entry.make(entry.batch, stand.draw), entry.setting(stand)
    off, red = judged(contest)
    red = red or alone(entry.make, entry.batch, stand.draw)
    with torch.inference_mode():
        red = red or ", ".join(astray(contest))
    print(f"{entry.title}, batch {entry.batch}: {red or 'green'}, off by {off:.1e}", flush=True)
    verdict = stand.row(entry.title, setting, "error", off, note=red or "green")
    if red or stand.dry:
        return [verdict]
    return [verdict, *speeds(stand, contest, setting, compiles=entry.compiles)]


def told(rows: list[Row]) -> None:
    """Print rows."""
    for row in rows:
        print(f"    {row.setting}: {row.metric} {row.value:.4g} {row.unit} {row.note}", flush=True)


def _key(stand: Stand, entry: Entry) -> tuple[str, str]:
    how = "once more with a compiled rival" if entry.title == UNET and entry.compiles else ""
    return entry.title, f"{entry.setting(stand)}; {how}".strip("; ")


def run(stand: Stand, watch: Watch, only: str, *, toy: bool) -> bool:
    """Measure what is not there yet; whether all of it is green."""
    if not stand.dry:
        watch.step(("ceiling", "ceiling"), lambda: ceilings(stand))
        if only in SMALL:
            watch.step((SMALL, "all"), lambda: kernel_small.measure(stand))
    for entry in programme(stand, toy=toy):
        if only in entry.title:
            watch.step(_key(stand, entry), partial(measure, stand, entry))
            if stand.on_card:
                torch.cuda.empty_cache()
    return watch.green


def main(arguments: list[str] | None = None) -> int:
    """Measure; 1 if anything is red."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--dry", action="store_true", help="no card: correctness alone")
    parser.add_argument("--toy", action="store_true", help="no card: rehearse all, small")
    parser.add_argument("--only", default="", help="part of a title")
    parser.add_argument("--seconds", type=float, default=570.0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of kernel_speed.csv")
    parser.add_argument("--again", action="store_true", help="measure anew")
    options = parser.parse_args(arguments)
    here = options.dry or options.toy
    if not here and not (torch.cuda.is_available() and HAS_KERNELS):
        print("expected a CUDA device and Triton, found none: no speeds; --dry checks answers")
        return 2
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    draw = Draw("cpu", torch.float32) if here else Draw("cuda", torch.bfloat16)
    stand = Stand(draw, dry=options.dry)

    def keep(rows: list[Row]) -> None:
        if not stand.dry:
            told(rows)
            write(NAME, rows, options.out)

    path = options.out / f"{NAME}.csv"
    done = [] if stand.dry or options.again else read(path, stand)
    watch = Watch(
        stand,
        time.monotonic() + options.seconds,
        keep,
        done,
        lambda: print(table(read(path, stand))),
    )
    green = run(stand, watch, options.only, toy=options.toy)
    if not stand.dry:
        rows = read(path, stand)
        print(table(rows))
        green = all_green(rows)
    return int(not green)


if __name__ == "__main__":
    sys.exit(main())
