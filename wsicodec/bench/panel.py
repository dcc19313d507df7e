"""Who judges a run, and what tiles are embedded again with."""

import hashlib
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wsicodec.bench.options import Options
from wsicodec.bench.output import Pixels
from wsicodec.geometry import PATCH
from wsicodec.metrics import features
from wsicodec.metrics.features import Extractor
from wsicodec.metrics.held_out import WEIGHTS
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import load_embedder

PROTOCOL = 2  # raised when a measure changes, so that older rows are not mixed with newer ones


def judges(options: Options, bundle: Bundle) -> list[Extractor]:
    """A run's extractors; raises ConfigError where none but the conditioning embedder judges."""
    found = [features.held_out()] if options.held_out else []
    if options.inception:
        found.append(features.inception(options.inception))
    own = set(bundle.config["files"].values())
    for path in options.onnx:
        judge = features.from_onnx(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() in own:
            judge = replace(judge, name=f"{judge.name}_conditions", conditions=True)
        found.append(judge)
    if options.conditioning:
        found.append(conditioning(bundle))
    features.require_judges(found)
    return found


def conditioning(bundle: Bundle) -> Extractor:
    """The bundle's embedder as a judge, marked; squares are enlarged to what it takes."""
    embed = load_embedder(bundle)

    def run(pixels: Pixels) -> NDArray[np.floating]:
        factor = PATCH // pixels.shape[1]
        return embed(np.ascontiguousarray(pixels.repeat(factor, 1).repeat(factor, 2)))

    return Extractor("embedder_conditions", run, conditions=True)


def embedder_digest(bundle: Bundle) -> str:
    """Twelve hex digits of the network that tiles are embedded again with."""
    return str(bundle.config["files"]["embedder.safetensors"])[:12]


def panel_digest(options: Options, bundle: Bundle) -> str:
    """Twelve hex digits of all that a run's figures depend on besides the pixels."""
    files = [*options.onnx]
    files += [options.inception] if options.inception else []
    files += [WEIGHTS] if options.held_out else []
    found = hashlib.sha256(f"{PROTOCOL} {options.draws} {options.quick}".encode())
    for path in files:
        found.update(path.read_bytes())
    if options.conditioning:
        found.update(embedder_digest(bundle).encode())
    return found.hexdigest()[:12]
