import json
from dataclasses import replace
from typing import Any

import pytest

from wsicodec.config import DrawOptions, StoreInfo
from wsicodec.errors import ConfigError, StoreError

INFO = StoreInfo(
    slide="0" * 32,
    fingerprint="f" * 64,
    bundle="small",
    shape=(2967, 2220),
    mpp=0.499,
    mpp_source="openslide.mpp-x",
    preset="standard",
    measured={2: "anchor", 5: "overview"},
    roi=((0, 0, 256, 512),),
)


def test_what_a_store_says_survives_json() -> None:
    assert StoreInfo.from_json(json.loads(json.dumps(INFO.to_json()))) == INFO


def test_only_what_is_sketched_says_so() -> None:
    sketched = replace(INFO, measured={}, sketch={5: "ab"})
    assert StoreInfo.from_json(json.loads(json.dumps(sketched.to_json()))) == sketched
    assert "sketch" not in INFO.to_json(), "earlier versions refuse keys that they do not know"


def test_it_says_that_pixels_are_synthesised() -> None:
    assert "not for diagnosis" in INFO.to_json()["notice"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "later one"),
        ({"colour": 1}, "unknown keys"),
        ({"measured": [1]}, "malformed"),
        ({"sketch": ["5"]}, "malformed"),
        ({"shape": None}, "malformed"),
    ],
    ids=["later format", "unknown key", "bad measured", "bad sketch", "no shape"],
)
def test_what_is_wrong_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        StoreInfo.from_json(INFO.to_json() | change)


@pytest.mark.parametrize("record", [None, [], {}, {"ome": 1}])
def test_what_is_no_slide_is_refused(record: Any) -> None:
    with pytest.raises(StoreError, match="expected a wsicodec store"):
        StoreInfo.from_json(record)


def test_extensions_are_left_alone() -> None:
    assert StoreInfo.from_json(INFO.to_json() | {"x-mine": 1}) == INFO


@pytest.mark.parametrize("options", [{"steps": -1}, {"steps": 1001}, {"backend": "tpu"}])
def test_drawing_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        DrawOptions(**options)
