"""Stage `collect`: what a slice brought back, as run folders that every other stage reads."""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file
from torch import Tensor

from wsicodec.errors import ConfigError
from wsicodec.train import checkpoint
from wsicodec.train.card import archive
from wsicodec.train.checkpoint import part

FROM_RECORD = ("machine", "torch", "commit", "plan", "steps", "spent", "memory")


@dataclass(frozen=True, slots=True)
class Collecting:
    """What came back, and where run folders go."""

    folder: str = "out"  # what the slice wrote
    runs: str = "runs/card"  # a folder per stage is written below it


def collect(config: Collecting) -> None:
    """Write a run folder per stage whose networks trained; raises ConfigError without a record."""
    folder, runs = Path(config.folder), Path(config.runs)
    try:
        record: dict[str, Any] = json.loads((folder / "record.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected the record of a slice in {folder}: {error}") from error
    arrays = archive.load_parts(folder, "weights")
    tables = {k: v for k, v in arrays.items() if k.startswith("tables.")}
    tensors = archive.to_tensors({k: v for k, v in arrays.items() if k not in tables})
    for stage, found in stages_of(record["trained"], tensors).items():
        _write_run(runs / stage, stage, found, record)
        _write_log(folder / "log.csv", runs / stage / "log.csv", stage)
        shutil.copy(folder / "sheet.png", runs / stage / "sheet.png")
    if "embedder" in record["trained"]:
        (runs / "codec").mkdir(parents=True, exist_ok=True)
        plain = {k.removeprefix("tables."): v for k, v in tables.items()}
        save_file(plain, runs / "codec" / "codec.safetensors")
        scale = json.dumps({"embedding_scale": record["scale"]})
        (runs / "codec" / "scale.json").write_text(scale + "\n", "utf-8")
    shutil.copy(folder / "record.json", runs / "record.json")


def stages_of(trained: list[str], tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors by the stage in whose run folder they belong, under the names they have there."""
    stages = {}
    rest = set(trained)
    if "critic" in rest:  # the last stage: its run holds the other two networks as well
        names = ("zoomldm", "renderer", "critic")
        stages["distill"] = {
            f"{name}.{k}": v for name in names for k, v in part(tensors, f"{name}.").items()
        }
        rest -= set(names)
    return stages | {name: part(tensors, f"{name}.") for name in sorted(rest)}


def _write_run(
    folder: Path, stage: str, tensors: dict[str, Tensor], record: dict[str, Any]
) -> None:
    """A checkpoint whose model is the average; its optimizer begins anew."""
    both = {f"{kind}.{k}": v for kind in ("model", "average") for k, v in tensors.items()}
    facts = {
        "seen": record["seen"].get(stage, 0),
        "seconds": record["seconds"].get(stage, 0.0),
        "config": record["configs"][stage],
        "card": {k: record[k] for k in FROM_RECORD},
    }
    checkpoint.save(folder, both, facts)


def _write_log(source: Path, target: Path, stage: str) -> None:
    """A stage's rows of the slice's log, a column per term, after what other slices logged."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    with source.open(newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if row["stage"] == stage:
                key = row["seen"], row["seconds"]
                told = rows.setdefault(key, {"seen": key[0], "seconds": key[1]})
                told[row["term"]] = row["value"]
    if not rows:
        return
    before = []
    if target.exists():
        with target.open(newline="", encoding="utf-8") as lines:
            before = list(csv.DictReader(lines))
    every = before + list(rows.values())
    columns = list(dict.fromkeys(name for row in every for name in row))
    with target.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, columns, restval="")
        writer.writeheader()
        writer.writerows(every)
