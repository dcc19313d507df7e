"""From a run of the stage `edm` to the part of a bundle that draws novel slides."""

from pathlib import Path
from typing import Any

from safetensors.numpy import save

from wsicodec.models.edm import PART, EdmNetwork, checked
from wsicodec.models.edm_config import EdmConfig
from wsicodec.train import checkpoint
from wsicodec.train.edm_network import TrainableEdm
from wsicodec.train.export import half


def load_run(folder: Path) -> tuple[TrainableEdm, dict[str, Any]]:
    """The averaged model of a run, and the run's facts."""
    tensors, facts = checkpoint.load(folder)
    model = TrainableEdm(EdmConfig.from_json(facts["config"]["model"]))
    model.load_state_dict(checkpoint.part(tensors, "average."))
    return model.eval(), facts


def edm_part(folder: Path) -> tuple[dict[str, int], dict[str, bytes], dict[str, Any]]:
    """A run's settings for the key `edm` of bundle.json, its part by name, and the run's facts."""
    model, facts = load_run(folder)
    return model.config.to_json(), {PART: save(half(model.state_dict()))}, facts


def runnable(folder: Path) -> EdmNetwork:
    """A run's averaged model as a bundle would hold it."""
    model, _ = load_run(folder)
    weights = {k: v.astype("float32") for k, v in half(model.state_dict()).items()}
    return EdmNetwork(model.config, checked(model.config, weights), str(folder.name))
