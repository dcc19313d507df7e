"""From run folders to a bundle: half-precision weights, graphs without weights, one record."""

import copy
import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from wsicodec.errors import BundleError

OPSET = 17
WINDOW = 40  # latent cells a side, as `diffusion.windows` cuts them
TOLERANCE = 1e-4  # largest difference between a graph and its module, over the largest value or 1
LARGEST_CONSTANT = 4096  # values of a constant that is not a weight


def half(weights: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Weights as they are stored: floating ones in half precision."""
    return {
        k: v.detach().contiguous().to(torch.float16 if v.is_floating_point() else v.dtype).numpy()
        for k, v in weights.items()
    }


def round_weights(module: nn.Module) -> nn.Module:
    """The module in evaluation, on weights that half precision holds exactly."""
    stored = {k: torch.from_numpy(v).float() for k, v in half(module.state_dict()).items()}
    module.load_state_dict(stored)
    return module.eval()


def graph_without_weights(
    module: nn.Module,
    feeds: Mapping[str, Tensor],
    output: str,
    weights: Mapping[str, Tensor],
    batch_is_free: bool = False,
) -> bytes:
    """An ONNX graph whose weights are named as in `weights` but not contained.

    Args:
        module: what is traced.
        feeds: example inputs by argument name, in order.
        output: name of the only output.
        weights: of the part that will fill the graph, which may use only some of them.
        batch_is_free: whether the first axis may have any length.
    """
    # The exporter merges weights of equal value (fresh norms are all ones): trace unequal ones.
    traced = copy.deepcopy(module)
    with torch.no_grad():
        for value in traced.state_dict().values():
            value.uniform_(0.5, 1.5)
    buffer = BytesIO()
    axes = {name: {0: "n"} for name in (*feeds, output)} if batch_is_free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traced,
            tuple(feeds.values()),
            buffer,  # type: ignore[arg-type]  # the tracing exporter takes files, too
            dynamo=False,
            opset_version=OPSET,
            input_names=list(feeds),
            output_names=[output],
            dynamic_axes=axes,
            do_constant_folding=False,
        )
    model = onnx.load_from_string(buffer.getvalue())
    _empty(model.graph, weights)
    return bytes(model.SerializeToString())


def _empty(graph: onnx.GraphProto, weights: Mapping[str, Tensor]) -> None:
    """Replace the graph's weights by promises."""
    own = [t for t in graph.initializer if t.name not in weights]
    used = [t.name for t in graph.initializer if t.name in weights]
    large = [t.name for t in own if np.prod(t.dims) > LARGEST_CONSTANT]
    if large:
        raise BundleError(f"expected every weight under its own name, got {large} besides")
    del graph.initializer[:]
    graph.initializer.extend(own)
    offset = 0
    for name in used:
        value = weights[name]
        tensor = graph.initializer.add(name=name, dims=value.shape)
        tensor.data_type = onnx.TensorProto.FLOAT
        tensor.data_location = onnx.TensorProto.EXTERNAL
        size = 4 * value.numel()
        for key, fact in (("location", "weights"), ("offset", offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(fact))
        offset += size


def check_graph(
    graph: bytes, module: nn.Module, feeds: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> float:
    """How far ONNX Runtime and the module differ, see TOLERANCE; BundleError above it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    used = [k for k in weights if k.encode() in graph]
    values = {k: weights[k].detach().contiguous().float().numpy() for k in used}
    options.add_external_initializers(
        list(values), [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in values.values()]
    )
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        wanted = module(*feeds.values()).numpy()
    got = session.run(None, {k: v.numpy() for k, v in feeds.items()})[0]
    error = float(np.abs(wanted - got).max() / max(1.0, np.abs(wanted).max()))
    if not error <= TOLERANCE:
        raise BundleError(f"expected graph and module to agree within {TOLERANCE}, got {error}")
    return error


def denoiser_feeds(channels: int, width: int) -> dict[str, Tensor]:
    """Example inputs of a denoiser for one window; `width` of an embedding."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "x": normal(1, channels, WINDOW, WINDOW),
        "t": torch.tensor([0.75]),
        "dt": torch.tensor([0.25]),
        "parent": normal(1, 3, 4 * WINDOW, 4 * WINDOW).clamp(-1, 1),
        "has_parent": torch.ones(1),
        "cond": normal(1, width + 1, WINDOW // 4, WINDOW // 4),
        "mag": torch.ones(1, dtype=torch.int64),
    }


def renderer_feeds(channels: int) -> dict[str, Tensor]:
    """Example inputs of a renderer for one window."""
    feeds = denoiser_feeds(channels, 1)
    return {"latent": feeds["x"]} | {k: feeds[k] for k in ("parent", "has_parent", "mag")}


def write_bundle(folder: Path, settings: dict[str, Any], parts: Mapping[str, bytes]) -> None:
    """Write parts and their digests next to `folder`, then put them in its place."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files = {}
    for name, data in parts.items():
        (temporary / name).write_bytes(data)
        files[name] = hashlib.sha256(data).hexdigest()
    text = json.dumps(settings | {"files": files}, indent=1, sort_keys=True)
    (temporary / "bundle.json").write_text(text + "\n", "utf-8")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def network_part(
    module: nn.Module,
    stem: str,
    feeds: Mapping[str, Tensor],
    output: str,
    weights: Mapping[str, Tensor],
    batch_is_free: bool = False,
) -> dict[str, bytes]:
    """A network's graph, checked against its module with the weights as they are stored."""
    graph = graph_without_weights(module, feeds, output, weights, batch_is_free)
    check_graph(graph, module, feeds, weights)
    return {f"{stem}.onnx": graph}


def weights_part(module: nn.Module, name: str) -> dict[str, bytes]:
    """A module's weights as a safetensors part."""
    return {f"{name}.safetensors": save(half(module.state_dict()))}


def codec_part(tensors: Mapping[str, NDArray[Any]]) -> dict[str, bytes]:
    """Integer tables as a safetensors part."""
    return {"codec.safetensors": save({k: np.ascontiguousarray(v) for k, v in tensors.items()})}
