"""A run whose embeddings got wider draws what it drew."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import json

import torch
from safetensors.numpy import save_file

from wsicodec.errors import ConfigError
from wsicodec.models.summarizer import SummarizerConfig
from wsicodec.models.unet import UNetConfig
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_zoomldm
from wsicodec.train.widen import Widening, widen

pytestmark = pytest.mark.torch
BEFORE, AFTER = 6, 9


def tables(folder: Path, width: int, scale: float) -> str:
    folder.mkdir()
    save_file({"basis": np.zeros((2, width), np.int32)}, folder / "codec.safetensors")
    (folder / "scale.json").write_text(json.dumps({"embedding_scale": scale}), "utf-8")
    return str(folder)


@pytest.fixture
def widening(tmp_path: Path) -> Widening:
    unet = UNetConfig(
        latent_channels=4,
        widths=(8, 8, 8),
        down_blocks=(1, 1, 1),
        up_blocks=(1, 1, 1),
        embedding=8,
        cond=8,
    )
    config = ZoomLDMConfig(unet, SummarizerConfig(BEFORE, 8, 1))
    torch.manual_seed(0)
    model = ZoomLDM(config)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    tensors = {f"{k}.{n}": v for k in ("model", "average") for n, v in model.state_dict().items()}
    tensors |= checkpoint.pack_optimizer(optimizer)
    facts = {"seen": 8, "seconds": 1.0, "config": {"model": config.to_json()}}
    checkpoint.save(tmp_path / "start", tensors, facts)
    return Widening(
        str(tmp_path / "start"),
        str(tmp_path / "wide"),
        tables(tmp_path / "old", BEFORE, 1.5),
        tables(tmp_path / "new", AFTER, 3.0),
    )


def test_old_values_are_told_as_before_and_new_ones_not_yet(widening: Widening) -> None:
    widen(widening)
    old, new = (load_zoomldm(Path(f))[0] for f in (widening.start, widening.folder))
    assert new.config.summarizer.embedding_width == AFTER
    raw, coverage = torch.randn(2, BEFORE, 4, 4), torch.rand(2, 1, 4, 4)
    before = torch.cat([raw / 1.5, coverage], 1)
    after = torch.cat([raw / 3.0, torch.randn(2, AFTER - BEFORE, 4, 4), coverage], 1)
    mag = torch.tensor([0, 1])
    torch.testing.assert_close(new.summarizer(after, mag), old.summarizer(before, mag))


def test_the_optimizer_goes_on(widening: Widening) -> None:
    widen(widening)
    model, _ = load_zoomldm(Path(widening.folder))
    tensors, facts = checkpoint.load(Path(widening.folder))
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint.unpack_optimizer(optimizer, tensors)
    for parameter, state in optimizer.state.items():
        assert state["exp_avg"].shape == parameter.shape
    assert facts["seen"] == 8


def test_narrower_embeddings_are_refused(widening: Widening) -> None:
    swapped = Widening(
        widening.start, widening.folder, old_tables=widening.tables, tables=widening.old_tables
    )
    with pytest.raises(ConfigError, match="cannot forget"):
        widen(swapped)
    assert not Path(widening.folder).exists()
