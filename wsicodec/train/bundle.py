"""A bundle out of run folders: what `python -m wsicodec.train bundle` writes."""

import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder
from wsicodec.models.renderer import Renderer, RendererConfig
from wsicodec.models.vit import VisionTransformer, VitConfig
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig
from wsicodec.train import checkpoint
from wsicodec.train.provenance import commit

LICENCE = "Weights trained on openly licensed H&E; see the record's data for the sources."
PLACES = {"folder", "root", "cache", "start", "autoencoder", "embedder", "zoomldm", "tables", "edm"}


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """Which runs make a bundle, and what it says of itself."""

    folder: str = "wsicodec/bundles/small"
    name: str = "small"
    embedder: str = "runs/embedder"  # run folders
    embedder_prefix: str = "average.teacher."  # of the shipped network's tensors
    autoencoder: str = "runs/autoencoder"
    zoomldm: str = "runs/distill"  # denoiser and renderer
    tables: str = "runs/codec"  # folder with codec.safetensors and scale.json
    edm: str = ""  # run of the embedding diffusion model; none: novel slides cannot be drawn
    steps: int = 1
    detail: float = 1.0  # what the renderer's detail is multiplied by
    colours: float = 1.0  # the same of its differences of colour, once more
    remarks: str = ""  # on how the runs were made, where their configurations do not tell it all
    anchors: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "standard": {"level": 2, "codec": "avif", "quality": 18, "bpp": 0.021},
            "detail": {"level": 1, "codec": "avif", "quality": 28, "bpp": 0.1},
        }
    )


def load_autoencoder(folder: Path) -> tuple[PixelShuffleAutoencoder, dict[str, Any]]:
    """The averaged autoencoder of a run, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    model = PixelShuffleAutoencoder(AutoencoderConfig.from_json(facts["config"]["model"]))
    model.load_state_dict(checkpoint.part(tensors, "average."))
    return model.eval(), facts


def load_renderer(folder: Path) -> tuple[Renderer, dict[str, Any]]:
    """The averaged renderer of a run of the last stage, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    model = Renderer(RendererConfig.from_json(facts["config"]["renderer"]))
    model.load_state_dict(checkpoint.part(tensors, "average.renderer."))
    return model.eval(), facts


def load_embedder(folder: Path, prefix: str) -> tuple[VisionTransformer, dict[str, Any]]:
    """The embedder of a run, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    model = VisionTransformer(VitConfig.from_json(facts["config"]["model"]))
    model.load_state_dict(checkpoint.part(tensors, prefix))
    return model.eval(), facts


def load_zoomldm(folder: Path) -> tuple[ZoomLDM, dict[str, Any]]:
    """The averaged denoiser of a run, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    adversarial = "zoomldm" in facts["config"]  # a run of that stage holds a critic besides
    config = facts["config"]["zoomldm"] if adversarial else facts["config"]
    model = ZoomLDM(ZoomLDMConfig.from_json(config["model"]))
    prefix = "average.zoomldm." if adversarial else "average."
    model.load_state_dict(checkpoint.part(tensors, prefix))
    return model.eval(), facts


def load_tables(folder: Path) -> tuple[dict[str, np.ndarray[Any, Any]], float]:
    """The codec tables' tensors and the scale that conditions are divided by."""
    from safetensors.numpy import load_file

    path = folder / "codec.safetensors"
    if not path.exists():
        raise ConfigError(f"expected codec tables in {folder}; run the stage `codec` first")
    scale = json.loads((folder / "scale.json").read_text("utf-8"))["embedding_scale"]
    return load_file(path), float(scale)


def write(plan: BundlePlan) -> Path:
    """Load the runs, export and check every graph, and put the bundle in its place."""
    from wsicodec.train import export

    autoencoder, autoencoder_facts = load_autoencoder(Path(plan.autoencoder))
    embedder, embedder_facts = load_embedder(Path(plan.embedder), plan.embedder_prefix)
    zoomldm, zoomldm_facts = load_zoomldm(Path(plan.zoomldm))
    tables, scale = load_tables(Path(plan.tables))
    renderer, _ = load_renderer(Path(plan.zoomldm))
    renderer.scale_detail(plan.detail, plan.colours)
    embedder = embedder.at_size(PATCH)
    parts: dict[str, bytes] = {}
    for module, name in (
        (embedder, "embedder"),
        (autoencoder, "autoencoder"),
        (zoomldm, "zoomldm"),
        (renderer, "renderer"),
    ):
        export.round_weights(module)
        parts |= export.weights_part(module, name)
    parts |= export.codec_part(tables)
    channels, width = autoencoder.config.latent_channels, embedder.config.embedding_width
    images = torch.rand(8, 3, PATCH, PATCH) * 2 - 1
    parts |= export.network_part(
        embedder,
        "embedder",
        {"images": images},
        "embeddings",
        embedder.state_dict(),
        batch_is_free=True,
    )
    parts |= export.network_part(
        zoomldm, "denoiser", export.denoiser_feeds(channels, width), "clean", zoomldm.state_dict()
    )
    parts |= export.network_part(
        renderer, "renderer", export.renderer_feeds(channels), "rgb", renderer.state_dict()
    )
    settings: dict[str, Any] = {
        "format": 1,
        "name": plan.name,
        "family": "small",
        "licence": LICENCE,
        "embedder": embedder.config.to_json(),
        "autoencoder": autoencoder.config.to_json(),
        "zoomldm": zoomldm.config.to_json(),
        "renderer": renderer.config.to_json(),
        "schedule": {"kind": "flow", "steps": plan.steps},
        "embedding_scale": scale,
        "anchors": plan.anchors,
    }
    facts = {"embedder": embedder_facts, "autoencoder": autoencoder_facts, "zoomldm": zoomldm_facts}
    if plan.edm:
        from wsicodec.train.edm_export import edm_part

        settings["edm"], part, facts["edm"] = edm_part(Path(plan.edm))
        parts |= part
    settings["record"] = _record(**facts) | _scales(plan) | {"remarks": plan.remarks}
    export.write_bundle(Path(plan.folder), settings, parts)
    return Path(plan.folder)


def _scales(plan: BundlePlan) -> dict[str, float]:
    return {"detail": plan.detail, "colours": plan.colours}


def _record(**facts: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {
        "machine": f"{platform.machine()} CPU, torch {torch.__version__}",
        "commit": commit(),
    }
    for stage, fact in facts.items():
        config = _without_places(json.loads(json.dumps(fact["config"])))
        record[stage] = {
            "patches": fact["seen"],
            "seconds": round(fact["seconds"]),
            "config": config,
        }
    return record


def _without_places(config: Any) -> Any:
    """A configuration without the folders of the machine that it ran on."""
    if not isinstance(config, dict):
        return config
    return {
        k: _without_places(v) for k, v in config.items() if not (k in PLACES and isinstance(v, str))
    }
