"""Where a checkpoint may lie."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing.sources import digest, open_source  # noqa: E402

pytestmark = pytest.mark.torch


def test_safetensors_are_read_as_they_are(tmp_path: Path) -> None:
    path, values = tmp_path / "a.safetensors", torch.randn(3, 2).bfloat16()
    save_file({"w": values}, path)
    with open_source(path) as source:
        assert source.shapes == {"w": (3, 2)}
        assert np.array_equal(source.read("w"), values.float().numpy())
        assert (source.sha256, source.wrapper) == (digest(path), "")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BundleError, match="no whole safetensors"), open_source(path):
        pass


def test_a_snapshot_with_one_checkpoint_is_enough(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "abc" / "brca"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, blobs / "5f3c")
    (snapshot / "weights.ckpt").symlink_to(blobs / "5f3c")
    (snapshot / "README.md").write_text("a model")
    with open_source(snapshot.parent) as source:
        assert source.path.name == "weights.ckpt"
        assert list(source.shapes) == ["w"]
    (snapshot / "other.safetensors").write_bytes(b"")
    with (
        pytest.raises(
            BundleError, match=r"brca/other.safetensors, brca/weights.ckpt; name the one"
        ),
        open_source(snapshot.parent),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/model", "nothing is downloaded unless"),
        ("notes.txt", "ending in"),
        (".", "found none"),
    ],
)
def test_what_cannot_be_a_checkpoint_is_named(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(BundleError, match=said), open_source(tmp_path / name):
        pass
