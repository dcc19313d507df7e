"""The Hub's names and folders, without a network."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing.hub import fetch, snapshot_of  # noqa: E402
from wsicodec.importing.sources import SUFFIXES, open_source  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A repository in the Hub's cache: two snapshots of links into blobs, the main one named."""
    repo = tmp_path / "models--owner--name"
    (repo / "blobs").mkdir(parents=True)
    (repo / "refs").mkdir()
    for revision, width in (("aaa", 2), ("bbb", 3)):
        snapshot = repo / "snapshots" / revision / "brca"
        snapshot.mkdir(parents=True)
        torch.save({"w": torch.ones(width)}, repo / "blobs" / revision)
        (snapshot / "weights.ckpt").symlink_to(repo / "blobs" / revision)
    (repo / "refs" / "main").write_text("bbb")
    return repo


class Hub:
    """What is called of huggingface_hub, and what it answers."""

    def __init__(self, repo: Path) -> None:
        self.repo, self.calls = repo, list[Any]()

    def hf_hub_download(self, repo: str, path: str, **options: Any) -> str:
        self.calls.append((repo, path, options))
        if repo != "owner/name":
            raise FileNotFoundError("401 Client Error.\n Access is restricted")
        return str(self.repo / "snapshots" / "bbb" / path)

    def snapshot_download(self, repo: str, **options: Any) -> str:
        self.calls.append((repo, options))
        return str(self.repo / "snapshots" / "bbb")


def test_a_folder_of_the_cache_is_its_main_snapshot(cache: Path) -> None:
    with open_source(cache) as source:
        assert source.shapes == {"w": (3,)}
        assert source.origin == ""
    assert snapshot_of(cache / "snapshots" / "aaa") == cache / "snapshots" / "aaa"
    (cache / "refs" / "main").unlink()
    with pytest.raises(BundleError, match="found aaa, bbb; give its own folder"):
        snapshot_of(cache)


def test_a_repositorys_name_is_fetched_by_the_hubs_library(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(cache)
    library = SimpleNamespace(
        hf_hub_download=hub.hf_hub_download, snapshot_download=hub.snapshot_download
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", library)
    with open_source("hub:owner/name@v1:brca/weights.ckpt") as source:
        assert source.shapes == {"w": (3,)}
        assert source.origin == "hub:owner/name@v1:brca/weights.ckpt"
    with open_source("hub:owner/name") as source:
        assert source.path.name == "weights.ckpt"
    (first, second) = hub.calls
    assert first == ("owner/name", "brca/weights.ckpt", {"revision": "v1"})
    assert second[1]["revision"] is None
    assert "*.safetensors" in second[1]["allow_patterns"]
    with (
        pytest.raises(BundleError, match="Access is restricted; gated"),
        open_source("hub:other/name:x.ckpt"),
    ):
        pass


def test_a_missing_library_and_odd_names_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(BundleError, match=r"wsicodec\[hub\], or fetch the repository yourself"):
        fetch("hub:owner/name", SUFFIXES)
    for text in ("hub:name", "hub:a/b/c", "hub:owner/na me"):
        with pytest.raises(BundleError, match="expected hub:OWNER/NAME"):
            fetch(text, SUFFIXES)
