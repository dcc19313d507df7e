"""The speed benchmark without a card: it judges answers and refuses speeds."""

import importlib.util
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
    from benchmarks import kernel_speed

    def refuse(*_: Any) -> None:
        raise AssertionError("a dry run has no rows and no times")

    monkeypatch.setattr(kernel_speed, "write", refuse)
    monkeypatch.setattr(kernel_speed, "timed", refuse)
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
def test_a_red_op_has_no_speed(
    ours: Any, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import kernel_speed
    from benchmarks.kernel_cases import Draw
    from benchmarks.kernel_contests import Contest

    written: list[Any] = []
    monkeypatch.setattr(kernel_speed, "write", lambda _, rows: written.extend(rows))
    monkeypatch.setattr(kernel_speed.Stand, "card", "a card")
    contest = Contest("op", ours, lambda: torch.ones(3), tolerance=1e-3)
    stand = kernel_speed.Stand(Draw("cpu", torch.float32), 0.0, dry=False)
    assert not kernel_speed.measure(stand, lambda *_: contest, 1)
    (row,) = written
    assert row.metric == "error"
    assert reason in row.note
    assert reason in capsys.readouterr().out


def test_a_rival_that_answers_another_question_is_told() -> None:
    from benchmarks import kernel_speed
    from benchmarks.kernel_contests import Contest

    def broken() -> Any:
        raise RuntimeError("not on this card")

    rivals = {"same": lambda: torch.ones(3), "other": lambda: torch.zeros(3), "none": broken}
    contest = Contest("op", lambda: torch.ones(3), lambda: torch.ones(3), rivals)
    (told,) = kernel_speed.astray(contest)
    assert told.startswith("other is off")
