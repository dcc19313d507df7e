"""CompressAI's learned codecs, where the user has the package and its weights.

A setting is MODEL:QUALITY:FILE, such as `bmshj2018-hyperprior:1:weights.pth.tar`: a model of
CompressAI's zoo, the quality that its sizes belong to, and a checkpoint of nothing but tensors.
Fields are coded one by one, and a file's bytes are those of its strings.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from wsicodec.bench.fields import Mosaic
from wsicodec.bench.output import Output, Pixels
from wsicodec.errors import BundleError, ConfigError
from wsicodec.resample import box_reduce

STRIDE = 64  # pixels; sides must be multiples of it


def compressed(mosaic: Mosaic, setting: str) -> Output:
    """All fields through a learned codec of CompressAI.

    Raises:
        ConfigError: the package is not installed, or it has no such model.
        BundleError: the checkpoint cannot be read without running code, or does not fit.
    """
    model = load_model(setting)
    began = time.perf_counter()
    coded = [_encode(model, field.rgb) for field in mosaic.fields]
    seconds = time.perf_counter() - began
    size = sum(len(part) for one in coded for batch in one["strings"] for part in batch)
    began = time.perf_counter()
    decoded = [
        _decode(model, one, field.rgb.shape[:2])
        for one, field in zip(coded, mosaic.fields, strict=True)
    ]
    spent = time.perf_counter() - began
    return Output(size, lambda k: [box_reduce(rgb, 1 << k) for rgb in decoded], seconds, spent)


def load_model(setting: str) -> Any:
    """The network that a setting names, its entropy tables made."""
    try:
        name, quality, file = setting.split(":", 2)
        number = int(quality)
    except ValueError:
        raise ConfigError(f"expected MODEL:QUALITY:FILE, got {setting!r}") from None
    try:
        from compressai.zoo import image_models
    except ImportError as error:
        raise ConfigError(
            "CompressAI's codecs need `pip install compressai` and weights that you have; "
            f"leave --compressai out otherwise: {error}"
        ) from error
    if name not in image_models:
        raise ConfigError(f"expected a model among {', '.join(image_models)}, got {name!r}")
    model = image_models[name](quality=number, pretrained=False)
    try:
        found = torch.load(Path(file), map_location="cpu", weights_only=True)
        model.load_state_dict(found.get("state_dict", found))
    except Exception as error:
        raise BundleError(f"expected weights of {name} {quality} in {file}: {error}") from error
    model.update(force=True)
    return model.eval()


@torch.inference_mode()
def _encode(model: Any, rgb: Pixels) -> dict[str, Any]:
    h, w = rgb.shape[:2]
    images = torch.from_numpy(rgb.transpose(2, 0, 1).copy())[None].float().div(255)
    padded = F.pad(images, (0, -w % STRIDE, 0, -h % STRIDE), mode="replicate")
    coded: dict[str, Any] = model.compress(padded)
    return coded


@torch.inference_mode()
def _decode(model: Any, coded: dict[str, Any], shape: tuple[int, ...]) -> Pixels:
    images = model.decompress(coded["strings"], coded["shape"])["x_hat"][0].clamp(0, 1)
    rgb = images.mul(255).add(0.5).floor().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(rgb[: shape[0], : shape[1]])
