"""Registers, spills, shared memory and matrix instructions of every kernel, built ahead of time.

    python -m benchmarks.kernel_budget                    build all, hold to kernels/budget.json
    python -m benchmarks.kernel_budget --only attention   one op
    python -m benchmarks.kernel_budget --only "of small"  what the default bundle starts
    python -m benchmarks.kernel_budget --cards sm_90      some architectures
    python -m benchmarks.kernel_budget --write            replace what was built in the budget

No card is needed. Builds what the dispatch table starts on each architecture for the published
networks in bfloat16 and for the default bundle as it is drawn with, and fails if a build spills,
does not fit, lost its matrix instructions, or takes more than its budget.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import triton

from benchmarks.kernel_build import ARCHITECTURES, MATRIX, Resources, build
from benchmarks.kernel_cases import Draw, cases
from benchmarks.kernel_small_calls import Call, small_calls
from wsicodec.ops.dispatch import assumed
from wsicodec.ops.forms import FORMS
from wsicodec_kernels.launch import Launch, recorded

BUDGET = Path(__file__).parents[1] / "kernels" / "budget.json"
SLACK = 16  # registers that a build may take beyond its budget
MULTIPLIES = ("attention", "condition", "upsample_conv", "project_symbols")


def calls() -> list[Call]:
    """All that is built for, one of a title."""
    draw = Draw("meta", torch.bfloat16)
    published = [Call(case.title, case.op, case.make(2, draw)) for case in cases()]
    return list({call.title: call for call in (*published, *small_calls())}.values())


def launches(call: Call, architecture: int) -> list[Launch]:
    """What a call starts there; nothing if the table has its reference run."""
    with assumed(f"sm_{architecture}"), recorded() as found, torch.inference_mode():
        FORMS["_" + call.op](*call.arguments)
    return found


def key(call: Call, launch: Launch, architecture: int) -> str:
    """A build's name in the budget."""
    return f"{call.title} | {launch.kernel.__name__} | sm_{architecture}"


def planned(only: str, architectures: list[int]) -> Iterator[tuple[str, str, Launch, int]]:
    """Every build: its name, op, launch and architecture."""
    for call in calls():
        for architecture in architectures if only in call.title else ():
            for launch in launches(call, architecture):
                yield key(call, launch, architecture), call.op, launch, architecture


def complaints(
    op: str, got: Resources, budget: dict[str, Any] | None, architecture: int
) -> list[str]:
    """What is wrong with a build; `budget` is its row as triton of the same version built it."""
    found = []
    if got.stack_bytes or got.local_bytes:
        found.append(f"spills {got.stack_bytes + got.local_bytes} bytes per thread")
    if not got.fits(architecture):
        found.append(f"takes {got.shared_bytes} bytes of shared memory, more than there is")
    if op in MULTIPLIES and not got.matrix.startswith(MATRIX[architecture]):
        found.append(f"multiplies by {got.matrix}, not {MATRIX[architecture]}")
    if budget is not None:
        if got.registers > budget["registers"] + SLACK:
            found.append(f"takes {got.registers} registers, {budget['registers']} budgeted")
        if got.shared_bytes > budget["shared_bytes"]:
            found.append(f"takes {got.shared_bytes} bytes, {budget['shared_bytes']} budgeted")
        if got.wide_loads == 0 < budget["wide_loads"]:
            found.append("lost its 128-bit loads")
    return found


def load() -> dict[str, Any]:
    """The budget: version of triton -> build -> resources."""
    return dict(json.loads(BUDGET.read_text("utf-8"))) if BUDGET.exists() else {}


def save(rows: dict[str, Any], wanted: set[str]) -> None:
    """Replace builds of this version of triton; what is not wanted any more goes, of all."""
    budget = load()
    budget[triton.__version__] = budget.get(triton.__version__, {}) | rows
    lines = []
    for version, builds in sorted(budget.items()):
        kept = sorted(name for name in builds if name in wanted)
        body = ",\n".join(f'  "{name}": {json.dumps(builds[name])}' for name in kept)
        lines.append(f' "{version}": {{\n{body}\n }}')
    BUDGET.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


def main() -> int:
    """Build, print, judge; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", default="", help="part of an op and its shape")
    parser.add_argument("--cards", nargs="*", default=[f"sm_{a}" for a in ARCHITECTURES])
    parser.add_argument("--write", action="store_true", help="take what was built as the budget")
    parser.add_argument("--missing", action="store_true", help="only what the budget lacks")
    options = parser.parse_args()
    architectures = [int(card.removeprefix("sm_")) for card in options.cards]
    budget, bad = load().get(triton.__version__, {}), 0
    wanted = {name for name, *_ in planned("", list(ARCHITECTURES))}
    for name, op, launch, architecture in planned(options.only, architectures):
        if options.missing and name in budget:
            continue
        got = build(launch, architecture)
        wrong = complaints(op, got, None if options.write else budget.get(name), architecture)
        bad += bool(wrong)
        print(f"{name}: {got}", *wrong, sep="\n    ", flush=True)
        if options.write:
            save({name: asdict(got)}, wanted)
    if options.write:
        save({}, wanted)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
