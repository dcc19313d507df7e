"""What an embedder is worth on held-out tissue, next to mean colour: retrieval and probes."""

import csv
import dataclasses
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH
from wsicodec.models.stain_statistics import measured
from wsicodec.models.vit import VisionTransformer
from wsicodec.train.bundle import load_embedder
from wsicodec.train.data import DataConfig, Picture, Pixels, load_pictures

Vectors = NDArray[np.float32]
Labels = NDArray[np.str_]
TISSUE_SHARE = 0.5  # of a patch, for it to count
PENALTIES = (0.003, 0.03, 0.3, 3.0)  # of the ridge, in units of the number of patches
WITHIN_PENALTY = 0.3
FOLDS = 5
WHITENED = 32  # components; chosen on a part of train that was kept from a trial's training
FIT_PER_PICTURE, TEST_PER_PICTURE = 16, 40  # patches; fields of a megapixel have 16


@dataclass(frozen=True)
class PatchSet:
    """Tissue patches of the finest level on each picture's own grid."""

    pictures: list[Picture]
    places: list[tuple[int, int, int]]  # picture, y, x in pixels of level 0

    def __len__(self) -> int:
        return len(self.places)

    def read(self, rows: Sequence[int]) -> Pixels:
        """Patches (n, PATCH, PATCH, 3)."""
        chosen = [self.places[row] for row in rows]
        parts = [self.pictures[p].levels[0][y : y + PATCH, x : x + PATCH] for p, y, x in chosen]
        return np.stack(parts)

    def names(self) -> list[str]:
        """The picture of every patch."""
        return [self.pictures[p].name for p, _, _ in self.places]

    def sources(self) -> list[str]:
        """What the file name says of where every patch is from."""
        return [Path(name).name.split("_")[0].split("-")[0] for name in self.names()]

    def tissues(self) -> list[str]:
        """The tissue class of every patch by its file name; empty where it says none."""
        return [tissue_class(name) for name in self.names()]


def tissue_class(name: str) -> str:
    """Class in the name of an osteosarcoma or BreaKHis file, else an empty string."""
    parts = Path(name).name.split("_")
    if parts[0] == "osteosarcoma":
        return f"osteosarcoma {parts[1]}"
    return f"breast {parts[2]}" if parts[0] == "breakhis" else ""


def find_patches(pictures: list[Picture], most_per_picture: int, step: int = PATCH) -> PatchSet:
    """Tissue patches of all pictures near 20x, evenly thinned to `most_per_picture`.

    step: pixels between the corners of neighbouring patches
    """
    places = []
    for number, picture in enumerate(pictures):
        if picture.mag_index > 0:
            continue
        h, w = picture.levels[0].shape[:2]
        found = [
            (number, y, x)
            for y in range(0, h - PATCH + 1, step)
            for x in range(0, w - PATCH + 1, step)
            if picture.tissue_in(0, y, x, PATCH) >= TISSUE_SHARE
        ]
        kept = np.linspace(0, len(found) - 1, min(len(found), most_per_picture)).round()
        places += [found[int(i)] for i in kept]
    return PatchSet(pictures, places)


@torch.inference_mode()
def embed(network: Callable[[Tensor], Tensor], patches: PatchSet, batch: int = 16) -> Vectors:
    """Vectors (n, width) that a network in evaluation gives of all patches."""
    parts = []
    for first in range(0, len(patches), batch):
        rgb = patches.read(range(first, min(first + batch, len(patches))))
        images = torch.from_numpy(rgb).permute(0, 3, 1, 2).float().mul(2 / 255).sub(1)
        parts.append(network(images.contiguous()).numpy())
    return np.concatenate(parts)


def mean_colour(patches: PatchSet) -> Vectors:
    """Means and deviations of red, green and blue (n, 6): what any embedder must beat."""
    rows = []
    for row in range(len(patches)):
        rgb = patches.read([row])[0].reshape(-1, 3).astype(np.float32)
        rows.append(np.concatenate((rgb.mean(0), rgb.std(0))))
    return np.stack(rows)


def stain_statistics(patches: PatchSet) -> Vectors:
    """What `models.stain_statistics` measures of patches, as it is (n, STATISTICS)."""
    return embed(measured, patches)


def retrieval(vectors: NDArray[np.floating], names: Sequence[str]) -> float:
    """Share of patches whose nearest other patch is from the same picture, averaged by picture.

    Pictures with a single patch only distract. Nearest by Euclidean distance.
    """
    right = _ranked(vectors, names)[:, 0]
    return float(np.mean(_by_picture(right, names)))


def precision(vectors: NDArray[np.floating], names: Sequence[str]) -> tuple[float, float]:
    """Mean average precision of finding patches of the same picture, and its standard error.

    Averaged by picture like `retrieval`, of which it is the steadier form: all ranks count. The
    error is over pictures.
    """
    right = _ranked(vectors, names)
    at_rank = right.cumsum(1) / np.arange(1, right.shape[1] + 1)
    each = (at_rank * right).sum(1) / np.maximum(right.sum(1), 1)
    pictures = _by_picture(each, names)
    return float(np.mean(pictures)), float(np.std(pictures) / len(pictures) ** 0.5)


def _ranked(vectors: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.bool_]:
    """For every patch (n, n - 1), nearest first: whether another one is of its picture."""
    norms = np.square(vectors).sum(1)
    distance = norms[:, None] + norms[None] - 2 * vectors @ vectors.T
    np.fill_diagonal(distance, np.inf)
    labels = np.array(names)
    return np.asarray(labels[distance.argsort(1)[:, :-1]] == labels[:, None])


def _by_picture(values: NDArray[Any], names: Sequence[str]) -> list[float]:
    labels = np.array(names)
    several = [n for n in sorted(set(names)) if (labels == n).sum() > 1]
    return [float(values[labels == n].mean()) for n in several]


def whiten(fit: Vectors, other: Vectors, components: int) -> Vectors:
    """The first Karhunen-Loeve components of `other`, all made as large on `fit`.

    They are the ones a store keeps of every vector; what a network tells in components of small
    variance counts as much as the rest.
    """
    mean = fit.mean(0, dtype=np.float64)
    values, basis = np.linalg.eigh(np.cov((fit - mean).T))
    kept = np.flatnonzero(values > 1e-6 * values[-1])[-components:]
    scaled = basis[:, kept] / np.sqrt(values[kept])
    return np.asarray((other - mean) @ scaled, np.float32)


def standardize(fit: Vectors, other: Vectors) -> tuple[Vectors, Vectors]:
    """Both sets with the first one's mean and deviation taken out of every value."""
    mean, spread = fit.mean(0), fit.std(0) + 1e-6
    return (fit - mean) / spread, (other - mean) / spread


def unit(vectors: Vectors) -> Vectors:
    """Rows of length one, so that Euclidean distance ranks as the cosine does."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def _ridge(x: Vectors, labels: Labels, penalty: float) -> Callable[[Vectors], Labels]:
    classes = sorted(set(labels))
    wanted = (labels[:, None] == np.array(classes)).astype(np.float64)
    weight = (wanted / wanted.sum(0)).sum(1)
    weight /= weight.sum()
    inputs = np.hstack((x, np.ones((len(x), 1)))).astype(np.float64)
    gram = (inputs * weight[:, None]).T @ inputs
    diagonal = np.full(len(gram), penalty)
    diagonal[-1] = 1e-9
    solution = np.linalg.solve(gram + np.diag(diagonal), (inputs * weight[:, None]).T @ wanted)

    def predict(other: Vectors) -> Labels:
        scores = np.hstack((other, np.ones((len(other), 1)))) @ solution
        return np.array(classes)[scores.argmax(1)]

    return predict


def _balanced(said: Labels, labels: Labels) -> float:
    return float(np.mean([(said[labels == c] == c).mean() for c in sorted(set(labels))]))


def probe(
    fit: tuple[Vectors, Sequence[str], Sequence[str]], test: tuple[Vectors, Sequence[str]]
) -> float:
    """Balanced accuracy of a linear probe on the classes that both sets have.

    fit: standardised vectors, labels, and pictures (the ridge's penalty is chosen by leaving
        pictures out); test: vectors and labels. An empty label is no label.
    """
    shared = (set(fit[1]) & set(test[1])) - {""}
    rows = np.array([label in shared for label in fit[1]])
    x, labels, names = fit[0][rows], np.array(fit[1])[rows], np.array(fit[2])[rows]
    order = {name: i % FOLDS for i, name in enumerate(sorted(set(names)))}
    fold = np.array([order[name] for name in names])
    scores = []
    for penalty in PENALTIES:
        said = np.empty_like(labels)
        for i in range(FOLDS):
            held = fold == i
            said[held] = _ridge(x[~held], labels[~held], penalty)(x[held])
        scores.append(_balanced(said, labels))
    best = PENALTIES[int(np.argmax(scores))]
    rows = np.array([label in shared for label in test[1]])
    return _balanced(_ridge(x, labels, best)(test[0][rows]), np.array(test[1])[rows])


def probe_within(vectors: Vectors, labels: Sequence[str], names: Sequence[str]) -> float:
    """Balanced accuracy of linear probes that each leave one picture of one set out.

    Where a class of the other set comes from one patient only, this one asks about tissue and not
    about the patient. An empty label is no label, and a class of one picture is left out; NaN
    where none is left.
    """
    rows = np.array([bool(label) for label in labels])
    x, known, pictures = vectors[rows], np.array(labels)[rows], np.array(names)[rows]
    several = [c for c in set(known) if len(set(pictures[known == c])) > 1]
    asked = np.isin(known, several)
    x, known, pictures = x[asked], known[asked], pictures[asked]
    if not len(known):
        return float("nan")
    said = np.empty_like(known)
    for picture in sorted(set(pictures)):
        held = pictures == picture
        said[held] = _ridge(x[~held], known[~held], WITHIN_PENALTY)(x[held])
    return _balanced(said, known)


def judge(
    fit: PatchSet, test: PatchSet, fit_vectors: Vectors, vectors: Vectors
) -> dict[str, float]:
    """All figures of one embedding; plain ones are of its vectors as a store keeps them."""
    a, b = standardize(fit_vectors, vectors)
    names, white = test.names(), whiten(fit_vectors, vectors, WHITENED)
    found, found_white = precision(b, names), precision(white, names)
    found_plain = precision(vectors, names)
    return {
        "retrieval_plain": retrieval(vectors, names),
        "precision_plain": found_plain[0],
        "precision_plain_error": found_plain[1],
        "retrieval_euclid": retrieval(b, names),
        "retrieval_cosine": retrieval(unit(b), names),
        "retrieval_whitened": retrieval(white, names),
        "precision": found[0],
        "precision_error": found[1],
        "precision_whitened": found_white[0],
        "precision_whitened_error": found_white[1],
        "probe_source": probe((a, fit.sources(), fit.names()), (b, test.sources())),
        "probe_tissue_val": probe_within(b, test.tissues(), names),
        "probe_tissue": probe((a, fit.tissues(), fit.names()), (b, test.tissues())),
    }


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which runs are judged, and where the rows go."""

    runs: tuple[str, ...] = ("runs/embedder",)  # folders
    prefix: str = "average.teacher."  # of the judged network's tensors in a checkpoint
    data: DataConfig = field(default_factory=DataConfig)  # probes are fitted on its split
    table: str = "embedder.csv"


def compare(config: Judgement) -> list[dict[str, Any]]:
    """Append rows for mean colour, stain statistics, the first run's token untrained, every run."""
    fit = find_patches(load_pictures(config.data), FIT_PER_PICTURE)
    held = dataclasses.replace(config.data, split="val")
    test = find_patches(load_pictures(held), TEST_PER_PICTURE)
    rows = []
    for name, measure in (("mean colour", mean_colour), ("stain statistics", stain_statistics)):
        figures = judge(fit, test, measure(fit), measure(test))
        rows.append(_row(name, 0, figures, len(test), ""))
    for number, folder in enumerate(config.runs):
        model, facts = load_embedder(Path(folder), config.prefix)
        candidates = [(Path(folder).name, int(facts["seen"]), model)]
        if number == 0:
            torch.manual_seed(0)
            token = dataclasses.replace(model.config, statistics=0)
            candidates.insert(0, ("untrained", 0, VisionTransformer(token).eval()))
        for name, seen, network in candidates:
            started = time.process_time()
            vectors = embed(network, fit), embed(network, test)
            speed = (len(fit) + len(test)) / (time.process_time() - started)
            rows.append(_row(name, seen, judge(fit, test, *vectors), len(test), f"{speed:.1f}"))
    write_rows(Path(config.table), rows)
    return rows


def _row(name: str, seen: int, figures: dict[str, float], count: int, speed: str) -> dict[str, Any]:
    return {
        "embedder": name,
        "patches_seen": seen,
        **{key: round(value, 4) for key, value in figures.items()},
        "patches_judged": count,
        "patches_per_cpu_second": speed,
        **machine(),
    }


def machine() -> dict[str, Any]:
    """What a row says of where and how it was made."""
    return {
        "machine": f"{platform.machine()} CPU, {torch.get_num_threads()} thread",
        "torch": str(torch.__version__),
        "command": "python -m wsicodec.train " + " ".join(Path(a).name for a in sys.argv[1:]),
    }


def write_rows(path: Path, rows: Sequence[dict[str, object]]) -> None:
    """Append rows to a CSV; its header is the first row's keys.

    Raises ConfigError where the file has other columns.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    if not fresh:
        with path.open(newline="", encoding="utf-8") as lines:
            columns = next(csv.reader(lines), [])
        if columns != list(rows[0]):
            raise ConfigError(
                f"expected the columns {list(rows[0])} in {path}, got {columns}; move it away"
            )
    with path.open("a", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, list(rows[0]))
        if fresh:
            writer.writeheader()
        writer.writerows(rows)
