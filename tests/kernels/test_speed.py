"""The speed benchmark without a card: it judges answers and refuses speeds."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None, reason="Triton is not installed"
    ),
]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is there")
def test_without_a_card_there_are_no_speeds(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import kernel_speed

    assert kernel_speed.main([]) == 2
    assert "no speeds" in capsys.readouterr().out


@pytest.mark.parametrize("only", ["forward", "project_symbols"])
def test_a_dry_run_judges_and_times_nothing(
    only: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import kernel_rounds, kernel_speed

    def refuse(*_: Any) -> None:
        raise AssertionError("a dry run has no rows and no times")

    monkeypatch.setattr(kernel_speed, "write", refuse)
    monkeypatch.setattr(kernel_rounds, "timed", refuse)
    assert kernel_speed.main(["--dry", "--only", only]) == 0
    out = capsys.readouterr().out
    assert "green" in out
    assert "second" not in out


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        (lambda: torch.full((3,), 1.1), "off by"),
        (lambda: torch.tensor([1.0, float("nan"), 1.0]), "off by inf"),
        (lambda: 1 + 1e-6 * torch.rand(3), "differs from itself"),
    ],
)
def test_a_red_op_has_no_speed(ours: Any, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import kernel_speed
    from benchmarks.kernel_cases import Draw
    from benchmarks.kernel_contests import Contest
    from benchmarks.kernel_rounds import Stand

    contest = Contest("op", ours, lambda: torch.ones(3), tolerance=1e-3)
    entry = kernel_speed.Entry("op", lambda *_: contest, 1, compiles=False)
    (row,) = kernel_speed.measure(Stand(Draw("cpu", torch.float32)), entry)
    assert row.metric == "error"
    assert reason in row.note
    assert reason in capsys.readouterr().out


def test_a_rival_that_answers_another_question_is_told() -> None:
    from benchmarks import kernel_rounds
    from benchmarks.kernel_contests import Contest

    def broken() -> Any:
        raise RuntimeError("not on this card")

    rivals = {"same": lambda: torch.ones(3), "other": lambda: torch.zeros(3), "none": broken}
    contest = Contest("op", lambda: torch.ones(3), lambda: torch.ones(3), rivals)
    (told,) = kernel_rounds.astray(contest)
    assert told.startswith("other is off")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programme cut down to one op and the small family's stand-in; what was measured."""
    from benchmarks import kernel_small, kernel_speed
    from benchmarks.kernel_rounds import Stand
    from benchmarks.record import Row

    seen: list[str] = []

    def small(stand: Stand) -> list[Row]:
        seen.append("small")
        rows = [("error", 0.0, "green"), ("seconds_p95", 0.004, ""), ("tiles_per_second", 10.0, "")]
        return [
            stand.row("small end to end", "batch 16", metric, value, note=note)
            for metric, value, note in rows
        ]

    monkeypatch.setattr(kernel_small, "measure", small)
    monkeypatch.setattr(kernel_speed, "TOY", ("guided_step",))
    monkeypatch.setattr(
        kernel_speed, "forwards", lambda small: {"U-Net forward": "", "VQ-f4 decode": ""}
    )
    return seen


@pytest.mark.usefixtures("toy")
def test_what_fails_is_red_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here the forward passes fail: nothing makes them."""
    from benchmarks import kernel_speed

    assert kernel_speed.main(["--toy", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "U-Net forward, batch 1, float32: RED, TypeError" in out
    assert "guided_step 3 x 64 x 64, batch 1: green" in out
    told = {line[:42].strip(): line.split()[-1] for line in out.splitlines() if "  " in line}
    assert told["small, p95 of a tile in s"] == "holds"
    assert told["small, tiles/s batched"] == "HOLD"  # does not
    assert told["U-Net over eager, batch 32"] == "measured"  # not


def test_a_second_run_goes_on_where_the_first_ended(
    toy: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import kernel_speed

    given = ["--toy", "--out", str(tmp_path), "--only"]
    assert kernel_speed.main([*given, "small"]) == 0
    assert kernel_speed.main([*given, "small"]) == 0
    assert toy == ["small"]
    assert kernel_speed.main([*given, "small", "--again"]) == 0
    assert toy == ["small"] * 2
    assert kernel_speed.main([*given, "guided", "--seconds", "0"]) == 0
    assert "left out for want of time: guided_step" in capsys.readouterr().out


def test_a_step_that_hangs_is_written_down_before_the_process_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading
    import time

    from benchmarks import kernel_watch
    from benchmarks.kernel_cases import Draw
    from benchmarks.kernel_rounds import Stand
    from benchmarks.record import Row

    kept: list[Row] = []
    again = threading.Event()
    monkeypatch.setattr(kernel_watch, "LONGEST", 0.05)
    monkeypatch.setattr("os.execv", lambda *_: again.set())
    stand = Stand(Draw("cpu", torch.float32))
    watch = kernel_watch.Watch(stand, time.monotonic() + 60, kept.extend, [], lambda: None)

    def hangs() -> list[Row]:
        assert again.wait(20)
        return []

    watch.step(("op", "batch 1"), hangs)
    assert (kept[0].subject, kept[0].metric, kept[0].value) == ("op", "step", 0)
    assert "no answer" in kept[0].note
    assert not kernel_watch.all_green(kept)
