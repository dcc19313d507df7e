"""Every kind of damage is found."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from wsicodec.errors import StoreError
from wsicodec.store.check import check_store
from wsicodec.store.describe import describe
from wsicodec.store.metadata import dump

Hurt = Callable[[bytes], bytes | None]
HURTS: dict[str, Hurt] = {
    "flipped": lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 0x55]) + b[len(b) // 2 + 1 :],
    "truncated": lambda b: b[: len(b) // 2],
    "emptied": lambda b: b"",
    "lost": lambda b: None,
}
OBJECTS = (
    "embeddings/c/0/0/0",
    "anchor/c/0/0/0",
    "roi/c/0/0/0",
    "tissue/c/0/0",
    "0/zarr.json",
    "tissue/manifest.json",
)


def damage(path: Path, hurt: Hurt) -> None:
    left = hurt(path.read_bytes())
    path.unlink() if left is None else path.write_bytes(left)


def test_a_whole_store_passes(store: Path) -> None:
    report = check_store(store)
    assert report.findings == ()
    assert report.objects == len([p for p in store.rglob("*") if p.is_file()])


@pytest.mark.parametrize("path", OBJECTS)
@pytest.mark.parametrize("hurt", HURTS)
def test_damage_to_an_object_is_found_and_named(store: Path, path: str, hurt: str) -> None:
    damage(store / path, HURTS[hurt])
    report = check_store(store)
    assert not report.ok
    assert any(path in finding for finding in report.findings)
    assert all("\n" not in finding for finding in report.findings)


@pytest.mark.parametrize("hurt", HURTS)
@pytest.mark.parametrize("path", ["embeddings/c/0/0/0", "anchor/c/0/0/0", "roi/c/0/0/0"])
def test_damage_is_found_without_the_manifest(store: Path, path: str, hurt: str) -> None:
    damage(store / path, HURTS[hurt])
    listed = json.loads((store / "tissue/manifest.json").read_bytes())
    listed["objects"].pop(path)
    (store / "tissue/manifest.json").write_bytes(dump(listed))
    named = [f for f in check_store(store).findings if path in f and "/manifest" not in f]
    assert named or (path.startswith("roi") and hurt == "lost")


def test_an_object_too_many_is_found(store: Path) -> None:
    (store / "notes.txt").write_text("x")
    assert check_store(store).findings == ("notes.txt: not in tissue/manifest.json",)


def test_a_second_codec_on_a_level_is_found(store: Path) -> None:
    document = json.loads((store / "3/zarr.json").read_bytes())
    document["codecs"].append({"name": "crc32c"})
    (store / "3/zarr.json").write_bytes(dump(document))
    assert any("expected the one codec" in f for f in check_store(store).findings)


def test_a_missing_bundle_is_found(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSICODEC_BUNDLES", "")
    monkeypatch.setattr("wsicodec.models.bundle._opened", {})
    report = check_store(store)
    assert not report.ok
    assert report.findings[0].startswith("bundle fake: ")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        check_store(tmp_path)


def test_describe_counts_all_bytes_by_part(store: Path) -> None:
    facts = describe(store)
    sizes = facts["bytes_by_part"]
    assert facts["bytes"] == sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    assert sum(sizes.values()) == facts["bytes"]
    assert set(sizes) == {"anchor", "embeddings", "metadata", "roi", "tissue"}
    assert sum(facts["patches"].values()) == 12
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
