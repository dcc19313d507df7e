"""Going on when something fails, hangs, or was measured before: how `kernel_speed` takes its steps.

A fault of a kernel leaves the card unusable for its whole process, and a hang never comes back to
Python. In both cases the step is written down as red, and the same command starts again in this
process's place with the time that is left; what has rows is not measured twice.
"""

import csv
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernel_rounds import Stand
from benchmarks.record import Row

LONGEST = 200.0  # seconds of one step; a compiler may take most of them
Key = tuple[str, str]  # title, setting


def read(path: Path, stand: Stand) -> list[Row]:
    """The rows of a file that were measured on this card, with these versions, of this commit."""
    if not path.exists():
        return []
    mine = stand.row("", "", "", 0.0)
    with path.open(newline="") as file:
        found = [_row(record) for record in csv.DictReader(file)]
    same = (mine.machine, mine.versions, mine.commit)
    return [row for row in found if (row.machine, row.versions, row.commit) == same]


def _row(record: dict[str, str]) -> Row:
    values: dict[str, Any] = dict(record)
    values |= {name: float(record[name]) for name in ("value", "low", "high")}
    return Row(**values | {"runs": int(record["runs"])})


def _told(trouble: Exception) -> str:
    lines = str(trouble).strip().splitlines() or [""]
    return f"{type(trouble).__name__}: {lines[0][:160]}"


def all_green(rows: Iterable[Row]) -> bool:
    """Whether no step failed and no answer was wrong."""
    verdicts = {"step": "done", "error": "green"}
    return all(row.note == verdicts.get(row.metric, row.note) for row in rows)


class Watch:
    """Takes steps until the time is over."""

    def __init__(
        self,
        stand: Stand,
        until: float,
        keep: Callable[[list[Row]], None],
        done: Iterable[Row],
        end: Callable[[], None],
    ) -> None:
        """Watch over steps.

        Args:
            stand: the machine.
            until: when to stop, of the monotonic clock.
            keep: takes the rows of every step.
            done: rows of an earlier process.
            end: said when the time is over in the middle of a step.
        """
        self.green = True
        self._stand, self._until, self._keep = stand, until, keep
        self._done = {(row.subject, row.setting) for row in done if row.metric == "step"}
        self._end = end

    def step(self, key: Key, work: Callable[[], list[Row]]) -> None:
        """Do something unless it was done; trouble makes it red."""
        if key in self._done:
            return
        left = self._until - time.monotonic()
        if left < 1:
            print(f"left out for want of time: {', '.join(key)}", flush=True)
            return
        timer = threading.Timer(min(LONGEST, left), self._hangs, (key, left <= LONGEST))
        timer.daemon = True
        timer.start()
        try:
            rows, note = work(), "done"
            red = [row for row in rows if row.metric == "error" and row.note != "green"]
            self.green &= not red
        except Exception as trouble:  # noqa: BLE001, whatever one op does must not cost others
            rows, note = [], _told(trouble)
            self.green = False
            print(f"{', '.join(key)}: RED, {note}", flush=True)
            traceback.print_exc()
        finally:
            timer.cancel()
        self._keep([*rows, self._stand.row(*key, "step", float(note == "done"), note=note)])
        if note != "done" and not self._card_is_well():
            self._start_again()

    def _card_is_well(self) -> bool:
        if not self._stand.on_card:
            return True
        try:
            return bool(torch.ones(8, device="cuda").sum().item() == 8)
        except RuntimeError:
            return False

    def _hangs(self, key: Key, over: bool) -> None:
        """On the timer's thread: the other one waits for the card or a compiler."""
        if over:
            print(f"{', '.join(key)}: cut off, the time is over; ask again", flush=True)
            self._end()
            sys.stdout.flush()
            os._exit(3)
        print(f"{', '.join(key)}: RED, no answer in {LONGEST:.0f} s", flush=True)
        note = f"no answer in {LONGEST:.0f} s"
        self._keep([self._stand.row(*key, "step", 0.0, note=note)])
        self._start_again()

    def _start_again(self) -> None:
        left = max(0.0, self._until - time.monotonic())
        words = [word for word in sys.argv[1:] if word != "--again"]
        # The last of two settings counts.
        command = ["-m", "benchmarks.kernel_speed", *words, "--seconds", f"{left:.0f}"]
        print(f"starting again with {left:.0f} s left", flush=True)
        os.execv(sys.executable, [sys.executable, *command])
