"""The decoder that only remembers."""

from pathlib import Path

import numpy as np
import pytest

from wsicodec.bench import memory
from wsicodec.bench.fields import Field, lay_out
from wsicodec.bench.memory import Bank, load_bank, remember
from wsicodec.errors import ConfigError
from wsicodec.metrics.pictures import cut_patches


def _embed(patches: np.ndarray) -> np.ndarray:
    """Mean colours, around their middle."""
    return np.asarray(patches.mean((1, 2)) - 128.0)


def test_patches_of_the_bank_come_back_as_they_are(rng: np.random.Generator) -> None:
    rgb = rng.integers(0, 256, (512, 1024, 3), np.uint8)
    rgb = (rgb // 8 + rng.integers(20, 200, (2, 4, 3)).repeat(256, 0).repeat(256, 1)).astype(
        np.uint8
    )
    patches = cut_patches(rgb, 256)
    vectors = _embed(patches)
    bank = Bank(patches[::-1], (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))[::-1])
    output = remember(lay_out("one", [Field("a", "a", rgb)]), bank, _embed)
    assert bank.bits == 3
    assert output.bytes == 8 * 3 / 8
    assert np.array_equal(output.levels(0)[0], rgb)
    assert output.levels(1)[0].shape == (256, 512, 3)


def test_the_bank_is_the_training_split(
    drawn_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tif").symlink_to(drawn_slide)
    (tmp_path / "index.csv").write_text("file,split,est. mpp\na.tif,train,0.5\n")
    bank = load_bank(tmp_path / "index.csv", _embed)
    assert len(bank.patches) == len(bank.vectors) >= 4
    assert np.linalg.norm(bank.vectors, axis=1) == pytest.approx(1)
    monkeypatch.setattr(memory, "MOST", 2)
    fewer = load_bank(tmp_path / "index.csv", _embed)
    assert np.array_equal(fewer.patches, bank.patches[[0, -1]]), "evenly thinned"
    with pytest.raises(ConfigError, match="--mpp"):
        load_bank(tmp_path / "index.csv", _embed, split="val")
