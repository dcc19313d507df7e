"""Run folders of untrained toy networks, and a pack of them with drawn tissue."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.toys import AUTOENCODER, RENDERER, SUMMARIZER, UNET, VIT, WIDTH

ZOOMLDM = {"unet": UNET, "summarizer": SUMMARIZER}
DINO = {"prototypes": 16, "hidden": 16, "bottleneck": 8}
LOOP = {"batch": 4, "average": 40}


class Runs:
    """Folders of one rehearsal."""

    def __init__(self, root: Path, data: dict[str, Any]) -> None:
        self.root, self.data = root, data

    def at(self, name: str) -> str:
        return str(self.root / name)

    def write(self, name: str, record: dict[str, Any]) -> Path:
        path = self.root / f"{name}.json"
        path.write_text(json.dumps(record), "utf-8")
        return path

    def packing(self, **changed: Any) -> dict[str, Any]:
        names = ("embedder", "autoencoder", "zoomldm")
        runs = {name: self.at(name) for name in names} | {"tables": self.at("codec")}
        settings = {"folder": self.at("pack"), "data": self.data, "anchors": 2, "limit": 2.0}
        return runs | settings | {"whole_embedder": True} | changed

    def stage(self, name: str, share: float = 1.0, **settings: Any) -> dict[str, Any]:
        zoomldm = {"sides": [192], "loop": LOOP, "parents": {"drawn": 0.6}}
        known: dict[str, Any] = {
            "embedder": {
                "crops": {"window": 128, "large": 64, "small": 32, "small_count": 2},
                "dino": DINO, "loop": LOOP,
            },
            "autoencoder": {"side": 64, "loop": LOOP},
            "zoomldm": zoomldm,
            "distill": {"zoomldm": zoomldm, "renderer": RENDERER, "critic": 8, "loop": LOOP},
        }  # fmt: skip
        return {"stage": name, "share": share, "settings": known[name] | settings}


def save_networks(runs: Runs) -> None:
    import torch
    from safetensors.numpy import save_file

    from wsicodec.coding.fit import fit_tables
    from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder
    from wsicodec.models.vit import VitConfig
    from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig
    from wsicodec.train import checkpoint
    from wsicodec.train.config import build
    from wsicodec.train.dino import DinoConfig, Distillation

    torch.manual_seed(0)
    networks = {
        "embedder": (Distillation(VitConfig.from_json(VIT), build(DinoConfig, DINO)), VIT),
        "autoencoder": (
            PixelShuffleAutoencoder(AutoencoderConfig.from_json(AUTOENCODER)), AUTOENCODER
        ),
        "zoomldm": (ZoomLDM(ZoomLDMConfig.from_json(ZOOMLDM)), ZOOMLDM),
    }  # fmt: skip
    for name, (network, model) in networks.items():
        tensors = {f"average.{k}": v for k, v in network.state_dict().items()}
        config: dict[str, Any] = {"model": model, "folder": runs.at(name)}
        config |= {"dino": DINO} if name == "embedder" else {}
        checkpoint.save(
            Path(runs.at(name)), tensors, {"seen": 1000, "seconds": 9.0, "config": config}
        )
    grids = list(np.random.default_rng(0).normal(0, 1, (8, 8, 8, WIDTH)).astype(np.float32))
    tables = fit_tables(grids, target_bytes=12.0)
    Path(runs.at("codec")).mkdir()
    save_file(dict(tables.to_tensors()), Path(runs.at("codec")) / "codec.safetensors")
    (Path(runs.at("codec")) / "scale.json").write_text('{"embedding_scale": 1.0}')


@pytest.fixture(scope="session")
def runs(
    tmp_path_factory: pytest.TempPathFactory, tissue_folder: Path, pyramid_cache: Path
) -> Runs:
    """Untrained networks, tables, and a pack of them."""
    pytest.importorskip("torch")
    from wsicodec.train import stages

    runs = Runs(
        tmp_path_factory.mktemp("card"), {"root": str(tissue_folder), "cache": str(pyramid_cache)}
    )
    save_networks(runs)
    stages.run("pack", runs.write("pack_config", runs.packing()), threads=1)
    return runs
