"""Stage `pack`: pictures, networks and tables in a folder small enough to travel with the code."""

import io
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.errors import ConfigError
from wsicodec.resample import box_reduce
from wsicodec.train import checkpoint
from wsicodec.train.bundle import PLACES, load_tables
from wsicodec.train.card import archive
from wsicodec.train.card.state import Standing
from wsicodec.train.card.tissue import FORMAT, INDEX, decode
from wsicodec.train.card.variants import latent_levels
from wsicodec.train.codec import CodecFit
from wsicodec.train.config import to_record
from wsicodec.train.data import MAP_STEP, DataConfig, Picture, Pixels, generator, load_pictures
from wsicodec.train.distill import DistillTraining
from wsicodec.train.variants import ANCHOR, CELL, VariantConfig, anchor_quality, code_anchor

MEBIBYTE = 1 << 20
BLOCK = 128  # pixels; tissue and the blocks around it are kept, the rest is one colour of glass
FAINT = 0.02  # tissue share above which a block is kept
GLASS = 245  # where a picture shows no glass of its own
FORMS: dict[str, Callable[[int], dict[str, Any]]] = {
    "jpeg": lambda quality: {"quality": quality, "subsampling": 0, "optimize": True},
    "webp": lambda quality: {"quality": quality, "method": 4},
}
ANCHOR_FORM, ANCHOR_QUALITY = "jpeg", 95  # leaves a coded anchor within 1 of 255 on average


@dataclass(frozen=True, slots=True)
class Packing:
    """What travels."""

    folder: str = ".card"
    embedder: str = "runs/embedder"  # run folders whose averages are the start
    autoencoder: str = "runs/autoencoder"
    zoomldm: str = "runs/zoomldm"  # of stage zoomldm or distill
    tables: str = "runs/codec"
    standing: str = ""  # record of the last slice, when its networks are packed
    whole_embedder: bool = False  # with the student and the heads, to train it further
    data: DataConfig = field(default_factory=DataConfig)
    area: float = 40.0  # megapixels at most of one source; larger pictures are cut
    form: str = "webp"  # or jpeg; webp has 2 dB more at the same bytes, but halved chroma
    qualities: tuple[int, ...] = (95, 92, 90, 87, 84, 80, 75, 70, 65, 60, 55, 50, 45, 40)
    anchors: int = 1  # coded anchors of a picture, each of another of the variants' rates
    variants: VariantConfig = field(default_factory=VariantConfig)
    bytes_per_vector: float = 24.0  # of tables that are fitted on the card to a new embedder
    limit: float = 40.0  # MiB of the whole folder
    threads: int = 1  # that code pictures


def pack(config: Packing) -> None:
    """Write the folder anew; raises ConfigError when it would be too large."""
    if config.form not in FORMS:
        raise ConfigError(f"expected a form of {', '.join(FORMS)}, got {config.form!r}")
    folder = Path(config.folder)
    if folder.exists():
        if not (folder / INDEX).exists():
            raise ConfigError(f"expected {folder} to be a pack or absent; name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    networks = _pack_networks(config, folder)
    pictures = [trimmed(p, quota) for p, quota in _quotas(load_pictures(config.data), config.area)]
    pictures = [p for p in pictures if latent_levels(*p.shapes[0]) > 0]
    anchors, error = _pack_anchors(config, pictures, folder)
    left = int(config.limit * MEBIBYTE) - size_of(folder) - 2048 * len(pictures) // 8
    quality, files = _pack_pixels(config, pictures, folder, left)
    rows = [
        {"name": p.name, "source": p.source, "kind": p.kind, "mpp": p.mpp, "file": f, "coded": c}
        for p, f, c in zip(pictures, files, anchors, strict=True)
    ]
    facts = {"format": FORMAT, "quality": quality, "form": config.form, "anchor_error": error}
    index = facts | networks | {"pictures": rows}
    (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", "utf-8")
    whole = size_of(folder) / MEBIBYTE
    if whole > config.limit:
        raise ConfigError(f"expected at most {config.limit} MiB, got {whole:.1f}; lower `area`")
    print(
        f"{len(rows)} pictures as {config.form} {quality} and their anchors within "
        f"{error:.2f} of 255: {whole:.1f} MiB in {folder}"
    )


def _pack_networks(config: Packing, folder: Path) -> dict[str, Any]:
    """Write weights and tables; gives configurations, scale and standing."""
    arrays: archive.Arrays = {}
    tensors, facts = checkpoint.load(Path(config.embedder))
    kept = "average." if config.whole_embedder else "average.teacher."
    _take(arrays, tensors, kept, "embedder." + kept.removeprefix("average."))
    seen, configs = {"embedder": int(facts["seen"])}, {"embedder": facts["config"]}
    tensors, facts = checkpoint.load(Path(config.autoencoder))
    _take(arrays, tensors, "average.", "autoencoder.")
    configs["autoencoder"] = facts["config"]
    seen["autoencoder"] = int(facts["seen"])
    tensors, facts = checkpoint.load(Path(config.zoomldm))
    along = "zoomldm" in facts["config"]
    _take(arrays, tensors, "average." + "zoomldm." * along, "zoomldm.")
    if along:
        _take(arrays, tensors, "average.renderer.", "renderer.")
        _take(arrays, tensors, "average.critic.", "critic.")
    configs["zoomldm"] = facts["config"]["zoomldm"] if along else facts["config"]
    seen["distill" if along else "zoomldm"] = int(facts["seen"])
    given = facts["config"] if along else to_record(DistillTraining())
    configs["distill"] = given | {"zoomldm": configs["zoomldm"]}
    configs["codec"] = to_record(CodecFit(bytes_per_vector=config.bytes_per_vector))
    tables, scale = load_tables(Path(config.tables))
    arrays |= {f"tables.{k}": v for k, v in tables.items()}
    archive.save_parts(folder, "weights", arrays)
    standing = asdict(Standing(seen=seen))
    if config.standing:
        standing = asdict(Standing.of(json.loads(Path(config.standing).read_text("utf-8"))))
    return {"configs": _without_places(configs), "scale": scale, "standing": standing}


def _take(arrays: archive.Arrays, tensors: dict[str, Any], prefix: str, name: str) -> None:
    found = checkpoint.part(tensors, prefix)
    arrays |= {f"{name}{k}": v for k, v in archive.to_arrays(found, half=True).items()}


def _without_places(config: Any) -> Any:
    """A configuration without the folders of this machine."""
    if not isinstance(config, dict):
        return config
    mine = {k for k, v in config.items() if k in PLACES and isinstance(v, str)}
    return {k: _without_places(v) for k, v in config.items() if k not in mine}


def _quotas(pictures: Sequence[Picture], area: float) -> list[tuple[Picture, float]]:
    """Pictures with the pixels each may keep: small ones all, large ones of a source alike."""
    by_source: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        by_source[picture.source].append(picture)
    shares = []
    for members in by_source.values():
        left = area * 1e6
        for rest, picture in enumerate(sorted(members, key=_pixels)):
            quota = left / (len(members) - rest)
            left -= min(quota, _pixels(picture))
            shares.append((picture, quota))
    return shares


def _pixels(picture: Picture) -> float:
    height, width = picture.shapes[0]
    return float(height * width)


def trimmed(picture: Picture, quota: float) -> Picture:
    """The finest level cut to whole cells, and to the square with most tissue when over `quota`."""
    height, width = (n // CELL * CELL for n in picture.shapes[0])
    y = x = 0
    if height * width > quota:
        side = max(int(quota**0.5) // CELL, 1) * CELL
        tall, wide = min(side, height), min(side, width)
        y, x = _densest(picture.tissue, tall // MAP_STEP, wide // MAP_STEP)
        height, width = tall, wide
    step = MAP_STEP
    rgb = np.ascontiguousarray(picture.levels[0][y : y + height, x : x + width])
    tissue = picture.tissue[y // step : (y + height) // step, x // step : (x + width) // step]
    return Picture(picture.name, picture.source, picture.kind, picture.mpp, [rgb], tissue)


def _densest(tissue: NDArray[np.float32], rows: int, columns: int) -> tuple[int, int]:
    """Corner in pixels of the rectangle of map cells that holds most tissue."""
    sums = np.pad(tissue.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns]
    y, x = np.unravel_index((inside + sums[:-rows, :-columns]).argmax(), inside.shape)
    return int(y) * MAP_STEP, int(x) * MAP_STEP


def without_glass(picture: Picture) -> Pixels:
    """The finest level with one colour where neither a block nor its neighbours hold tissue."""
    rgb = picture.levels[0].copy()
    cells = BLOCK // MAP_STEP
    rows, columns = (-(-n // BLOCK) for n in rgb.shape[:2])
    whole = np.zeros((rows * cells, columns * cells), np.float32)
    whole[: picture.tissue.shape[0], : picture.tissue.shape[1]] = picture.tissue
    held = whole.reshape(rows, cells, columns, cells).max((1, 3)) > FAINT
    around = np.pad(held, 1)
    near = np.zeros_like(held)
    for y in range(3):
        for x in range(3):
            near |= around[y : y + rows, x : x + columns]
    empty = ~near.repeat(BLOCK, 0).repeat(BLOCK, 1)[: rgb.shape[0], : rgb.shape[1]]
    seen = rgb[::8, ::8][empty[::8, ::8]]
    rgb[empty] = np.median(seen, 0).astype(np.uint8) if len(seen) else GLASS
    return rgb


def _pack_anchors(
    config: Packing, pictures: Sequence[Picture], folder: Path
) -> tuple[list[list[str]], float]:
    """Write coded anchors; gives their names and how far these files are off, of 255."""
    known, counts = np.unique(config.variants.rates, return_counts=True)

    def write(number: int) -> tuple[list[str], list[float]]:
        rgb, tissue = pictures[number].levels[0], float(pictures[number].tissue.mean())
        if latent_levels(*rgb.shape[:2]) < ANCHOR:
            return [], []
        rng, names, errors = generator(config.variants.seed, number), [], []
        several = min(config.anchors, len(known))
        chosen = rng.choice(known, several, replace=False, p=counts / counts.sum())
        small = box_reduce(rgb, 1 << ANCHOR)
        for nth, bpp in enumerate(chosen.tolist()):
            coded = code_anchor(small, anchor_quality(small, tissue, bpp))
            name = f"{number:04d}_{nth}.{ANCHOR_FORM}"
            (folder / name).write_bytes(coded_bytes(coded, ANCHOR_FORM, ANCHOR_QUALITY))
            errors.append(float(np.abs(decode(folder / name).astype(int) - coded).mean()))
            names.append(name)
        return names, errors

    with ThreadPoolExecutor(config.threads) as pool:
        found = list(pool.map(write, range(len(pictures))))
    errors = [e for _, each in found for e in each]
    return [names for names, _ in found], float(np.mean(errors)) if errors else 0.0


def _pack_pixels(
    config: Packing, pictures: Sequence[Picture], folder: Path, left: int
) -> tuple[int, list[str]]:
    """Write the pictures in the best quality of which all fit into `left` bytes."""
    clean = [without_glass(p) for p in pictures]
    tried: dict[int, list[bytes]] = {}

    def fits(quality: int) -> bool:
        def code(rgb: Pixels) -> bytes:
            return coded_bytes(rgb, config.form, quality)

        with ThreadPoolExecutor(config.threads) as pool:
            tried[quality] = list(pool.map(code, clean))
        return sum(len(c) for c in tried[quality]) <= left

    qualities = sorted(config.qualities, reverse=True)
    low, high = 0, len(qualities)
    while low < high:  # qualities[low:] fit, the ones before do not
        middle = (low + high) // 2
        low, high = (low, middle) if fits(qualities[middle]) else (middle + 1, high)
    if low == len(qualities):
        raise ConfigError(
            f"expected pictures of quality {qualities[-1]} to fit into {left / MEBIBYTE:.1f} MiB; "
            "lower `area`, or raise `limit`"
        )
    best = qualities[low]
    names = [f"{number:04d}.{config.form}" for number in range(len(clean))]
    for name, data in zip(names, tried[best], strict=True):
        (folder / name).write_bytes(data)
    return best, names


def coded_bytes(rgb: Pixels, form: str, quality: int) -> bytes:
    """A picture file."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, form.upper(), **FORMS[form](quality))
    return buffer.getvalue()


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())
