"""`wsicodec sample`: what reaches the API, and what is refused."""

from dataclasses import dataclass
from typing import Any

import pytest

from wsicodec import api, cli


@dataclass
class Report:
    bytes: int = 1200


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def sample(store: str, **options: Any) -> Report:
        seen.update(options, store=store)
        return Report()

    monkeypatch.setattr(api, "sample", sample)
    return seen


def test_everything_reaches_the_api(asked: dict[str, Any]) -> None:
    words = "sample n.zarr --size 512x1024 --seed 7 --bundle small --overwrite --quiet"
    assert cli.main(words.split()) == 0
    assert asked == {
        "store": "n.zarr",
        "size": (512, 1024),
        "seed": 7,
        "bundle": "small",
        "overwrite": True,
        "progress": None,
    }


def test_the_defaults_are_the_apis(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sample", "n.zarr", "--json"]) == 0
    assert (asked["size"], asked["seed"], asked["bundle"]) == ((8192, 8192), 0, None)
    assert '"bytes": 1200' in capsys.readouterr().out


@pytest.mark.parametrize("size", ["512", "512xa", "1x2x3"])
def test_a_size_that_is_none_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sample", "n.zarr", "--size", size])
    assert "expected HEIGHTxWIDTH" in capsys.readouterr().err
