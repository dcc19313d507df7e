"""The published networks in figures, and what importing their checkpoints costs at full size.

    python -m benchmarks.published counts        parameters and FLOP of one forward, on no memory
    python -m benchmarks.published import        synthetic checkpoints of both kinds, 0.7 and 3.6 GB
    python -m benchmarks.published draw          the released networks at full size, part by part
    python -m benchmarks.published store         a store encoded with and drawn by them, full size

Rows go to benchmarks/results/published.csv. No published weights are needed: the checkpoints have
the published names, shapes and wrappers, and nothing meaningful in them.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.record import Row, write
from wsicodec import api
from wsicodec.codec.state import state
from wsicodec.diffusion.trained_steps import schedule_buffers, square_root_linear
from wsicodec.importing.checkpoint import import_checkpoint
from wsicodec.models.published.cnn_summarizer import CnnSummarizer, CnnSummarizerConfig
from wsicodec.models.published.registry import build
from wsicodec.models.published.unet import LdmUNetConfig
from wsicodec.models.published.vit_summarizer import VitSummarizerConfig
from wsicodec.models.published.vq import VqConfig
from wsicodec.models.vit import VitConfig
from wsicodec.zoomldm.model import load_published

NAME = "published"
GIGA, MIB = 1e9, 1 << 20


def counts() -> list[Row]:
    """Parameters of every published network, and GFLOP of one forward of one item."""
    with torch.device("meta"):
        unet, vq = build(LdmUNetConfig()), build(VqConfig())
        vit, summarizer = build(VitConfig()), build(VitSummarizerConfig())
        cnn = CnnSummarizer(CnnSummarizerConfig())
        latent, context, step = torch.empty(1, 3, 64, 64), torch.empty(1, 65, 512), torch.empty(1)
        image = torch.empty(1, 3, 256, 256)
        magnification = torch.zeros(1, dtype=torch.int64)
        pooled, fine = torch.empty(1, 1024, 8, 8), torch.empty(1, 384, 128, 128)
    runs: list[tuple[str, torch.nn.Module, str, Callable[[], Any]]] = [
        ("U-Net", unet, "3x64x64, context 65", lambda: unet(latent, step, context)),
        ("VQ-f4", vq, "encode 256 px", lambda: vq.encode(image)),
        ("VQ-f4", vq, "decode 256 px", lambda: vq.decode(latent)),
        ("ViT summarizer", summarizer, "8x8", lambda: summarizer(pooled, magnification)),
        ("HIPT ViT-256", vit, "256 px", lambda: vit(image)),
        ("CNN summarizer", cnn, "128x128", lambda: cnn(fine, magnification)),
    ]
    rows = []
    for subject, module, setting, run in runs:
        total = sum(parameter.numel() for parameter in module.parameters())
        rows.append(Row("counts", subject, "", "parameters", total, ""))
        with FlopCounterMode(display=False) as counter:
            run()
        rows.append(
            Row("counts", subject, setting, "forward", counter.get_total_flops() / GIGA, "GFLOP")
        )
    return rows


def imports() -> list[Row]:
    """Seconds and peak memory of `wsicodec model import` on files of the published sizes."""
    rows = []
    for name, make in (("vit256_small_dino.pth", _hipt), ("weights.ckpt", _release)):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            path = Path(folder) / name
            torch.save(make(), path)
            began = time.monotonic()
            words = ["-m", "wsicodec", "model", "import", str(path), "--out", folder]
            child = os.posix_spawn(sys.executable, [sys.executable, *words], os.environ)
            _, status, used = os.wait4(child, 0)
            seconds = time.monotonic() - began
            assert status == 0
            written = sum(p.stat().st_size for p in Path(folder).glob("*/*"))
            note = "peak of the larger process, pages of mapped files included"
            rows += [
                Row("import", name, "", "file", path.stat().st_size / MIB, "MiB"),
                Row("import", name, "", "bundle", written / MIB, "MiB"),
                Row("import", name, "", "time", seconds, "s"),
                Row("import", name, "", "peak", used.ru_maxrss / 1024, "MiB", note=note),
            ]
    return rows


def _like(config: Any, prefix: str) -> dict[str, torch.Tensor]:
    """Tensors of a network's names and shapes whose memory nobody has touched yet."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build(config).state_dict().items()}
    return {prefix + name: torch.empty(shape) for name, shape in shapes.items()}


def draw() -> list[Row]:
    """Seconds of every part of drawing one patch with an imported release, on the CPU."""
    noise = np.zeros((3, 64, 64), np.float32)
    window = np.ones((8, 8, 1024), np.float32)
    rows = []

    def timed(metric: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        result = work()
        seconds = time.monotonic() - began
        note = f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32"
        rows.append(Row("draw", "uni-vit", "one patch", metric, seconds, "s", note=note))
        return result

    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "weights.ckpt"
        torch.save(_release(), path)
        bundle = import_checkpoint(path, folder)
        path.unlink()
        model = timed("load", lambda: load_published(bundle))
        context = timed("summarize", lambda: model.context(window, 3))
        estimate = model.estimate(context, 3, 1.0)
        timed("U-Net, one evaluation", lambda: estimate(model.put(noise), 500))
        pixels = timed("decode", lambda: model.decode(model.put(noise)))
        timed("encode", lambda: model.encode(pixels))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = "making and importing the checkpoint included"
    return [*rows, Row("draw", "uni-vit", "one patch", "peak", peak, "MiB", note=note)]


def store() -> list[Row]:
    """A slide of one patch, encoded from ready features and drawn by a release at full size.

    Weights are random, two steps replace the published fifty, and levels 1 and 0 are drawn.
    """
    rows: list[Row] = []

    def timed(metric: str, work: Callable[[], Any]) -> Any:
        began = time.process_time()
        result = work()
        spent = time.process_time() - began
        note = f"torch {torch.__version__}, one thread, processor time"
        rows.append(Row("store", "uni-vit", "one patch", metric, spent, "s", note=note))
        return result

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    picture = rng.integers(90, 200, (16, 16, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        bundle = _random_release(Path(folder))
        many = _features(Path(folder) / "many.h5", rng.normal(size=(64, 1024)))
        one = _features(Path(folder) / "one.h5", rng.normal(size=(1, 1024)))
        slide = Path(folder) / "slide.zarr"
        timed("fit the codec", lambda: api.fit_codec(bundle, [many]))
        timed(
            "encode, and its look at every level",
            lambda: api.encode(picture, slide, mpp=0.5, bundle=bundle, features=one),
        )
        drawn = state().drawn
        rows.append(Row("store", "uni-vit", "one patch", "windows drawn", sum(drawn.values()), ""))
        timed(
            "decode to a TIFF, tiles at hand",
            lambda: api.decode(slide, Path(folder) / "out.tif"),
        )
        size = sum(p.stat().st_size for p in slide.rglob("*") if p.is_file())
        rows.append(Row("store", "uni-vit", "one patch", "bytes", size, "B"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    note = "making and importing the checkpoint included"
    return [*rows, Row("store", "uni-vit", "one patch", "peak", peak, "MiB", note=note)]


def _random_release(folder: Path) -> Path:
    """An imported release whose U-Net has no running mean; every layer keeps its input's scale."""
    state_dict = {name: t for name, t in _release().items() if not name.startswith("model_ema")}
    for name, tensor in state_dict.items():
        if name.startswith(("model.", "first_stage_model.", "cond_stage_model.")):
            if tensor.ndim > 1:
                torch.nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
            else:
                tensor.fill_(float(name.endswith("weight")))
    path = folder / "weights.ckpt"
    torch.save(state_dict, path)
    bundle = import_checkpoint(path, folder).path
    path.unlink()
    settings = json.loads((bundle / "bundle.json").read_text())
    settings["schedule"]["steps"] = 2
    (bundle / "bundle.json").write_text(json.dumps(settings))
    return bundle


def _features(path: Path, vectors: Any) -> Path:
    import h5py

    with h5py.File(path, "w") as file:
        file["features"] = vectors.astype(np.float32)
        places = np.arange(len(vectors))
        file["coords"] = np.stack((places % 8, places // 8), 1) * 256
    return path


_HEAD = {"mlp.0": (2048, 384), "mlp.2": (2048, 2048), "mlp.4": (256, 2048)}


def _hipt() -> dict[str, Any]:
    """DINO's training checkpoint: teacher, student, and AdamW over all but the head's scale."""
    teacher = _like(VitConfig(), "backbone.")
    for name, (wide, narrow) in _HEAD.items():
        teacher[f"head.{name}.weight"] = torch.empty(wide, narrow)
        teacher[f"head.{name}.bias"] = torch.empty(wide)
    teacher["head.last_layer.weight_g"] = torch.empty(65536, 1)
    teacher["head.last_layer.weight_v"] = torch.empty(65536, 256)
    student = {f"module.{name}": torch.empty_like(tensor) for name, tensor in teacher.items()}
    moments = {
        i: {"step": 1, "exp_avg": torch.empty_like(t), "exp_avg_sq": torch.empty_like(t)}
        for i, (name, t) in enumerate(student.items())
        if not name.endswith("weight_g")
    }
    return {
        "student": student,
        "teacher": teacher,
        "optimizer": {"state": moments, "param_groups": []},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
    }


def _release() -> dict[str, torch.Tensor]:
    unet = _like(LdmUNetConfig(), "")
    tables = schedule_buffers(square_root_linear())
    return (
        {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()}
        | {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
        | {
            f"model_ema.diffusion_model{name.replace('.', '')}": torch.empty_like(tensor)
            for name, tensor in unet.items()
        }
        | _like(VqConfig(), "first_stage_model.")
        | _like(VitSummarizerConfig(), "cond_stage_model.")
    )


_CHOICES = {"counts": counts, "import": imports, "draw": draw, "store": store}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=list(_CHOICES))
    rows = _CHOICES[parser.parse_args().what]()
    print(json.dumps({f"{r.subject} {r.setting} {r.metric}": r.value for r in rows}, indent=1))
    print(write(NAME, rows))


if __name__ == "__main__":
    main()
