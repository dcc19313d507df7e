"""What the README shows is run."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.checks import run_fresh
from wsicodec import cli, cli_bench, cli_model, cli_sample

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^\$ (\S.*?)(?:\s+#.*)?$", README, flags=re.MULTILINE)


def test_there_are_examples() -> None:
    assert len(PYTHON) >= 2
    assert {"make demo", "make test"} <= set(SHELL)


@pytest.mark.slow
def test_the_python_examples_run_one_after_the_other(drawn_slide: Path, tmp_path: Path) -> None:
    shutil.copy(drawn_slide, tmp_path / "slide.svs")
    ends = "assert pixels.shape == (256, 256, 3) and features.ndim == 3 and tissue.ndim == 2"
    printed = run_fresh("\n".join([*PYTHON, ends]), cwd=tmp_path)
    assert "generated" in printed.lower()


@pytest.mark.parametrize("command", [c for c in SHELL if c.startswith("wsicodec ")])
def test_the_commands_have_the_options_they_are_shown_with(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[object] = []
    group, *rest = command.split()[1:]
    apart = {"sample": cli_sample, "bench": cli_bench}
    where, name = (cli_model, rest[0]) if group == "model" else (apart.get(group, cli), group)
    monkeypatch.setattr(where, f"_{name.replace('-', '_')}", called.append)
    cli.main(command.split()[1:])
    assert len(called) == 1


@pytest.mark.parametrize("target", [c.split()[1] for c in SHELL if c.startswith("make ")])
def test_the_targets_are_in_the_makefile(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_every_file_it_names_is_there() -> None:
    named = re.findall(r"`([A-Z]+\.md|LICENSE|kernels/|benchmarks/results)`", README)
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_every_extra_it_names_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    line = re.search(r"^Extras: (.*?)\.$", README, flags=re.MULTILINE | re.DOTALL)
    assert line is not None
    assert set(re.findall(r"`(\w+)`", line[1])) == set(project["optional-dependencies"])
