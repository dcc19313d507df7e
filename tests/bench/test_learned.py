"""CompressAI's codecs through a stand-in of the package: weights are the user's to have."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn

from wsicodec.bench.fields import Field, lay_out
from wsicodec.bench.learned import compressed, load_model
from wsicodec.errors import BundleError, ConfigError

pytestmark = pytest.mark.torch


class Halver(nn.Module):
    """Keeps the mean colour of 64 px squares in 7 bytes a square."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))
        self.updated = False

    def update(self, *, force: bool) -> None:
        self.updated = force

    def compress(self, x: Tensor) -> dict[str, object]:
        assert self.updated
        assert x.shape[2] % 64 == x.shape[3] % 64 == 0
        small = nn.functional.avg_pool2d(x, 64)
        return {"strings": [[b"x" * 7 * small[0, 0].numel()]], "shape": small}

    def decompress(self, strings: object, shape: Tensor) -> dict[str, Tensor]:
        return {"x_hat": self.gain * shape.repeat_interleave(64, 2).repeat_interleave(64, 3)}


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    zoo = types.ModuleType("compressai.zoo")
    zoo.image_models = {"halver": lambda quality, pretrained: Halver()}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "compressai", types.ModuleType("compressai"))
    monkeypatch.setitem(sys.modules, "compressai.zoo", zoo)
    torch.save({"state_dict": {"gain": torch.ones(1)}}, tmp_path / "w.pth.tar")
    return f"halver:1:{tmp_path / 'w.pth.tar'}"


def test_strings_are_counted_and_fields_come_back(setting: str, rng: np.random.Generator) -> None:
    rgb = np.full((512, 512, 3), 100, np.uint8)
    output = compressed(lay_out("one", [Field("a", "a", rgb)], 0), setting)
    assert output.bytes == 7 * 64
    assert output.levels(0)[0].shape == (512, 512, 3)
    assert (output.levels(1)[0] == 100).all()


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compressai", None)
    with pytest.raises(ConfigError, match="pip install compressai"):
        load_model("bmshj2018-hyperprior:1:w.pth")


@pytest.mark.parametrize("wrong", ["halver", "halver:x:w.pth", "other:1:w.pth"])
def test_settings_that_cannot_be_are_refused(setting: str, wrong: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        load_model(wrong)


def test_weights_that_do_not_fit_are_refused(setting: str, tmp_path: Path) -> None:
    torch.save({"other": torch.ones(1)}, tmp_path / "w.pth.tar")
    with pytest.raises(BundleError, match="weights of halver"):
        load_model(setting)
