"""The command line: what reaches the API, what is printed, and how errors end."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wsicodec import __version__, api, cli
from wsicodec.errors import MppError, WsiCodecError


@dataclass
class Outcome:
    """Stands in for the reports of the API."""

    bytes: int = 1200
    bpp_tissue: float = 0.0217391
    ok: bool = True
    findings: list[str] = field(default_factory=list)


class Recorder:
    """A function that remembers its arguments and returns or raises what it was told to."""

    def __init__(self, result: object) -> None:
        self.result = result
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *arguments: Any, **options: Any) -> object:
        self.arguments, self.options = arguments, options
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


def replace(monkeypatch: pytest.MonkeyPatch, name: str, result: object) -> Recorder:
    recorder = Recorder(result)
    monkeypatch.setattr(api, name, recorder)
    return recorder


def test_encode_hands_everything_to_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = replace(monkeypatch, "encode", Outcome())
    words = "encode a.svs b.zarr --preset detail --mpp 0.25 --bundle small --backend onnx"
    more = "--roi 0,256,512,768 --roi 1,2,3,4 --features a.h5 --overwrite --quiet"
    assert cli.main([*words.split(), *more.split()]) == 0
    assert encode.arguments == ("a.svs", "b.zarr")
    assert encode.options == {
        "preset": "detail",
        "roi": [(0, 256, 512, 768), (1, 2, 3, 4)],
        "mpp": 0.25,
        "bundle": "small",
        "overwrite": True,
        "backend": "onnx",
        "progress": None,
        "features": "a.h5",
    }


def test_encode_has_the_defaults_of_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = replace(monkeypatch, "encode", Outcome())
    assert cli.main(["encode", "a.svs", "b.zarr"]) == 0
    assert encode.options["preset"] == "standard"
    assert not any(encode.options[name] for name in ("roi", "mpp", "bundle", "overwrite"))


def test_a_negative_mpp_reaches_the_api_as_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = replace(monkeypatch, "encode", Outcome())
    cli.main(["encode", "a.svs", "b.zarr", "--mpp", "-1"])
    assert encode.options["mpp"] == -1.0


def test_decode_prints_what_it_wrote(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"1234")
    decode = replace(monkeypatch, "decode", out)
    words = ["decode", "b.zarr", str(out), "--level", "2", "--steps", "8", "--json"]
    assert cli.main(words) == 0
    assert decode.arguments == ("b.zarr", str(out))
    assert decode.options == {
        "level": 2,
        "steps": 8,
        "backend": "auto",
        "overwrite": False,
        "progress": None,
    }
    assert json.loads(capsys.readouterr().out) == {"written": str(out), "bytes": 4}


def test_json_is_the_whole_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"preset": "standard", "rate": {"tissue": 0.0123456789}, "shape": [3, 4]}
    replace(monkeypatch, "info", record)
    assert cli.main(["info", "b.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record


def test_json_has_null_where_there_is_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(monkeypatch, "encode", Outcome(bpp_tissue=float("nan")))
    assert cli.main(["encode", "a.svs", "b.zarr", "--json"]) == 0
    assert '"bpp_tissue": null' in capsys.readouterr().out


def test_text_is_a_line_per_entry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace(monkeypatch, "info", {"preset": "standard", "rate": {"tissue": 0.0123456789}})
    assert cli.main(["info", "b.zarr"]) == 0
    assert capsys.readouterr().out == "preset       standard\nrate.tissue  0.012346\n"


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_check_tells_findings_by_status_and_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    replace(monkeypatch, "check", Outcome(ok=False, findings=["embeddings/c/0/0/0: truncated"]))
    assert cli.main(["check", "b.zarr", *options]) == 1
    assert "embeddings/c/0/0/0: truncated" in capsys.readouterr().out
    replace(monkeypatch, "check", Outcome())
    assert cli.main(["check", "b.zarr", *options]) == 0
    assert "truncated" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (MppError("expected mpp,\n  got -1"), 2, "wsicodec: error: expected mpp, got -1"),
        (WsiCodecError(), 2, "wsicodec: error: WsiCodecError"),
        (PermissionError(13, "denied", "b.zarr"), 2, "denied: 'b.zarr'"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_expected_error_is_one_line_and_a_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    text: str,
) -> None:
    replace(monkeypatch, "encode", error)
    assert cli.main(["encode", "a.svs", "b.zarr"]) == status
    printed = capsys.readouterr()
    assert text in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    replace(monkeypatch, "encode", IndexError("a mistake in the program"))
    with pytest.raises(IndexError):
        cli.main(["encode", "a.svs", "b.zarr"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "COMMAND"),
        (["encode", "a.svs"], "STORE"),
        (["encode", "a.svs", "b.zarr", "--mpp", "half"], "--mpp"),
        (["encode", "a.svs", "b.zarr", "--roi", "1,2,3"], "--roi"),
        (["encode", "a.svs", "b.zarr", "--nonsense"], "--nonsense"),
        (["squeeze"], "squeeze"),
    ],
)
def test_a_bad_option_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], words: list[str], named: str
) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main(words)
    printed = capsys.readouterr().err
    assert leaving.value.code == 2
    assert printed.startswith("wsicodec: error: ")
    assert named in printed
    assert printed.count("\n") == 1


def test_python_m_wsicodec_runs_and_knows_its_version() -> None:
    command = [sys.executable, "-m", "wsicodec", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"wsicodec {__version__}\n"


@pytest.mark.parametrize(
    "command", ["encode", "decode", "export-features", "info", "check", "model", "demo"]
)
def test_help_explains_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        cli.main([command, "--help"])
    assert leaving.value.code == 0
    assert "usage: wsicodec" in capsys.readouterr().out


@pytest.mark.slow
def test_a_source_that_is_not_there_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wsicodec", "encode", "none.svs", "a.zarr"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "none.svs" in done.stderr
    assert list(tmp_path.iterdir()) == []
