"""wsicodec as it is used: the mosaic through a real store, and the store's anchor alone."""

import hashlib
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsicodec import api
from wsicodec.bench.fields import Mosaic
from wsicodec.bench.output import Levels, Output
from wsicodec.bench.quantizers import write_scaled
from wsicodec.errors import ConfigError
from wsicodec.geometry import NATIVE_MPP
from wsicodec.metrics.rate import bytes_on_disk
from wsicodec.models.bundle import Bundle
from wsicodec.resample import box_reduce, double


@dataclass(frozen=True)
class Drawing:
    """A way to store and draw with a bundle."""

    preset: str
    steps: int = 0  # 0: what the store asks for
    quantizer: float = 1.0  # the embeddings' step over the bundle's
    seed: int = 0  # of the noise; 0 is the store as it was written

    @property
    def setting(self) -> str:
        """Its name in a row."""
        more = f", {self.steps} steps" if self.steps else ""
        coarse = "" if self.quantizer == 1 else f", step x{self.quantizer:g}"
        return f"{self.preset}{more}{coarse}"

    @classmethod
    def parse(cls, setting: str, seed: int = 0) -> "Drawing":
        """The inverse of `setting`."""
        preset, *rest = setting.split(", ")
        steps, quantizer = 0, 1.0
        for part in rest:
            if part.startswith("step x"):
                quantizer = float(part.removeprefix("step x"))
            else:
                steps = int(part.removesuffix(" steps"))
        return cls(preset, steps, quantizer, seed)


def draw(mosaic: Mosaic, drawing: Drawing, bundle: Bundle, work: Path) -> Output:
    """The fields out of a store of the whole mosaic; every byte of it counts."""
    path, seconds = stored(mosaic, drawing, bundle, work)
    size = bytes_on_disk(path)
    if drawing.seed:
        path = reseeded(path, drawing.seed, work)
    group: Any = api.open(path, steps=drawing.steps)

    def read(level: int) -> list[Any]:
        places = [f.region.scale_down(1 << level).slices() for f in mosaic.fields]
        return [np.asarray(group[str(level)][place]) for place in places]

    return Output(size, read, seconds, windows=True, weights=bundle.fingerprint[:12])


def anchor_alone(mosaic: Mosaic, preset: str, bundle: Bundle, work: Path) -> Output:
    """The store's real coarse picture, its own bytes, enlarged: what drawing has to beat."""
    plan = bundle.anchor(preset)
    if plan is None:
        raise ConfigError(f"expected a preset with an anchor, got {preset!r}")
    path, _ = stored(mosaic, Drawing(preset), bundle, work)
    group: Any = api.open(path)
    coarse = plan.level
    return Output(
        bytes_on_disk(path / "anchor"),
        _enlarged(mosaic, np.asarray(group[str(coarse)][...]), coarse),
        weights=bundle.fingerprint[:12],
    )


def _enlarged(mosaic: Mosaic, anchor: Any, coarse: int) -> Levels:
    def read(level: int) -> list[Any]:
        if level >= coarse:
            return mosaic.crops(box_reduce(anchor, 1 << (level - coarse)), level)
        rgb = anchor.astype(np.float32)
        for _ in range(coarse - level):
            rgb = double(rgb)
        return mosaic.crops(np.clip(np.floor(rgb + 0.5), 0, 255).astype(np.uint8), level)

    return read


def stored(mosaic: Mosaic, drawing: Drawing, bundle: Bundle, work: Path) -> tuple[Path, float]:
    """The store of a preset and quantiser, made once for all steps and seeds, and its seconds."""
    name = f"{drawing.preset} x{drawing.quantizer:g}"
    path, note = work / f"{name}.zarr", work / f"{name}.json"
    if not note.exists():
        folder = Path(tempfile.mkdtemp(dir=work))
        bundle_path = bundle.path
        if drawing.quantizer != 1:
            bundle_path = write_scaled(bundle, drawing.quantizer, work / f"bundle {folder.name}")
        began = time.perf_counter()
        api.encode(
            mosaic.rgb, folder / "s", preset=drawing.preset, mpp=NATIVE_MPP, bundle=bundle_path
        )
        record = {"seconds": time.perf_counter() - began, "bundle": str(bundle_path)}
        _keep(folder, path, note, record)
    record = json.loads(note.read_text("utf-8"))
    _register(record["bundle"])
    return path, float(record["seconds"])


def _keep(folder: Path, path: Path, note: Path, record: dict[str, Any]) -> None:
    """Give a store its name unless another process was faster."""
    try:
        (folder / "s").rename(path)
    except OSError:
        if not path.is_dir():
            raise
    else:
        (folder / "note").write_text(json.dumps(record), "utf-8")
        (folder / "note").rename(note)
    while not note.exists():
        time.sleep(0.1)
    shutil.rmtree(folder)


def _register(folder: str) -> None:
    """Open a bundle in this process, so that a store that names it finds it."""
    from wsicodec.models.bundle import load_bundle

    load_bundle(folder)


def reseeded(store: Path, seed: int, work: Path) -> Path:
    """A copy of a store whose noise is another: its slide has another digest, all else is kept."""
    root = json.loads((store / "zarr.json").read_text("utf-8"))
    old = root["attributes"]["wsicodec"]["slide"]
    new = hashlib.sha256(f"{old} {seed}".encode()).hexdigest()[: len(old)]
    copy = Path(tempfile.mkdtemp(dir=work)) / "reseeded"
    shutil.copytree(store, copy)
    for file in copy.rglob("zarr.json"):
        file.write_bytes(file.read_bytes().replace(old.encode(), new.encode()))
    return copy
