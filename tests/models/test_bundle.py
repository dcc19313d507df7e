import json
import shutil
from pathlib import Path

import pytest

from wsicodec.errors import BundleError
from wsicodec.models.bundle import (
    EMBEDDED,
    SEARCH_VARIABLE,
    Bundle,
    find_bundle,
    fingerprint,
    load_bundle,
)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the embedded bundle that a test may hurt."""
    return Path(shutil.copytree(EMBEDDED / "small", tmp_path / "copied"))


def _change(folder: Path, **settings: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_the_embedded_bundle_is_whole_and_small() -> None:
    bundle = load_bundle()
    size = 0
    for part in bundle.config["files"]:
        size += len(bundle.read(part))
    assert size < 40 << 20
    assert bundle.config["licence"]
    assert bundle.config["record"]
    assert bundle.anchor("semantic") is None
    assert bundle.anchor("standard") is not None


def test_the_fingerprint_names_weights_and_settings_but_not_the_record(copied: Path) -> None:
    original = load_bundle()
    _change(copied, record={"seconds": 1})
    assert Bundle(copied).fingerprint == original.fingerprint
    _change(copied, embedding_scale=99.0)
    assert Bundle(copied).fingerprint != original.fingerprint
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})


def test_a_damaged_part_is_refused(copied: Path) -> None:
    weights = copied / "zoomldm.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0\1"[:1])
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="damaged"):
        Bundle(copied).weights("zoomldm.safetensors")


def test_a_missing_part_is_named(copied: Path) -> None:
    (copied / "renderer.onnx").unlink()
    with pytest.raises(BundleError, match=r"renderer\.onnx"):
        Bundle(copied).read("renderer.onnx")
    with pytest.raises(BundleError, match="it has"):
        Bundle(copied).read("pickle.pt")


def test_bundles_are_found_by_fingerprint_where_the_variable_says(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_bundle(load_bundle().fingerprint).name == "small"
    _change(copied, name="mine")
    wanted = Bundle(copied).fingerprint
    with pytest.raises(BundleError, match=SEARCH_VARIABLE):
        find_bundle(wanted)
    monkeypatch.setenv(SEARCH_VARIABLE, str(copied.parent))
    assert find_bundle(wanted).name == "mine"


def test_what_is_no_bundle_is_refused(tmp_path: Path, copied: Path) -> None:
    with pytest.raises(BundleError, match="embedded bundle"):
        load_bundle(tmp_path / "none")
    (tmp_path / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle\.json"):
        load_bundle(tmp_path)
    _change(copied, format=2)
    with pytest.raises(BundleError, match="format 1"):
        load_bundle(copied)
