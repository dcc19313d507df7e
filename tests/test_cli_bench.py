"""`wsicodec bench`: what reaches the benchmark, and what is printed."""

from pathlib import Path

import pytest

from tests.checks import modules_loaded_by
from wsicodec import cli
from wsicodec.bench import command
from wsicodec.bench.options import Options
from wsicodec.errors import ConfigError


def test_options_reach_the_benchmark(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    given: list[Options] = []

    def bench(options: Options, progress: object) -> Path:
        given.append(options)
        return options.out.with_suffix(".html")

    monkeypatch.setattr(command, "bench", bench)
    words = "--quick --mpp 0.5 --only wsicodec avif --presets standard --steps 1 --seeds 2"
    more = "--quantizers 2 --without avif --workers 1 --quiet"
    where = ["--out", str(tmp_path), "--train", "index.csv"]
    assert cli.main(["bench", "a.svs", "b.svs", *words.split(), *more.split(), *where]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'rate_fid.html'}\n"
    (options,) = given
    assert options == Options(
        inputs=(Path("a.svs"), Path("b.svs")),
        out=tmp_path / "rate_fid.csv",
        quick=True,
        mpp=0.5,
        codecs=("wsicodec", "avif"),
        without=("avif",),
        presets=("standard",),
        steps=(1,),
        quantizers=(2.0,),
        seeds=2,
        train=Path("index.csv"),
        workers=1,
    )


def test_without_the_libraries_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "scipy" else object())
    assert cli.main(["bench", "a.svs", "--out", str(tmp_path), "--quiet"]) == 2
    assert "pip install 'wsicodec[bench]'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="scipy"):
        command.require_libraries()


def test_unknown_codecs_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["bench", "a.svs", "--only", "gif"])
    assert left.value.code == 2
    assert "invalid choice" in capsys.readouterr().err


def test_the_command_line_loads_nothing_heavy() -> None:
    loaded = modules_loaded_by("from wsicodec import cli\ncli._parser()")
    assert loaded.isdisjoint({"numpy", "torch", "zarr", "matplotlib", "imagecodecs"})
