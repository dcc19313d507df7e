"""Progress bars: drawn for people on a terminal, and for nobody else."""

import io
import sys

import pytest

from wsicodec.progress import bars


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_each_kind_of_piece_with_its_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with bars() as report:
        assert report is not None
        report(3, 10, "patches")
        report(10, 10, "patches")
        report(2, 5, "tiles")
    shown = terminal.getvalue()
    assert "patches" in shown
    assert "10/10" in shown
    assert "2/5" in shown


def test_a_pipe_and_a_quiet_run_see_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for stream, quiet in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        with bars(quiet=quiet) as report:
            assert report is None
        assert stream.getvalue() == ""
