"""Progress bars on the terminal, for the command line and the demo."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

Report = Callable[[int, int, str], None]  # pieces done, pieces in all, what a piece is called


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Report | None]:
    """Bars with rate and time left on stderr, one per kind of piece.

    Args:
        quiet: draw nothing.

    Yields:
        What `wsicodec.encode` and `wsicodec.decode` take as `progress`; None where nobody watches.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    tasks: dict[str, TaskID] = {}
    with Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as progress:

        def report(done: int, total: int, unit: str) -> None:
            if unit not in tasks:
                tasks[unit] = progress.add_task(unit, total=total)
            progress.update(tasks[unit], completed=done, total=total)

        yield report
