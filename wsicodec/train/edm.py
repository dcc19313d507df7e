"""Stage `edm`: the embedding diffusion model, from the variants' grids and overviews' outlines.

Windows of all octaves, each with or without the octave above. In phase OUTLINE the coverage is
noisy and nothing else is told; in phase CONTENT the coverage is given and the coefficients of
covered cells are noisy. So outlines are learned from slides that are too coarse to embed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.coding.quantizer import EmbeddingTables
from wsicodec.errors import ConfigError
from wsicodec.models.edm_config import CONTENT, OUTLINE, EdmConfig
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_tables
from wsicodec.train.data import DataConfig, generator, load_pictures
from wsicodec.train.edm_fields import Octave, Plane, composites, sections
from wsicodec.train.edm_grids import load_grids
from wsicodec.train.edm_network import TrainableEdm
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample
from wsicodec.train.variants import VariantConfig, load_variants

Floats = NDArray[np.float32]
FLOOR = 0.25  # of a step; smaller deviations than this are taken for it
STATISTICS = 400  # windows that means and deviations are taken of, per octave
ALIGN = 2  # cells; windows begin on cells of the octave above


@dataclass(frozen=True, slots=True)
class EdmWindows:
    """How windows are drawn and spoilt."""

    sides: tuple[int, ...] = (16, 8, 8)  # cells of a window, batch after batch
    octaves: tuple[float, ...] = (0.45, 0.25, 0.14, 0.1, 0.06)  # shares of samples
    outline: float = 0.35  # share of samples in that phase
    sections: float = 0.4  # share from whole sections; the rest is from composites
    composites: int = 160
    fewest: int = 48  # cells of tissue in an outline worth having
    alone: float = 0.25  # share without the octave above
    noise: float = 0.35  # largest deviation of what is added to the octave above
    shift: float = 2.0  # above 1, times are drawn nearer to pure noise (Esser et al. 2024)


@dataclass(frozen=True, slots=True)
class EdmTraining:
    """One run of the stage."""

    folder: str = "runs/edm"
    tables: str = "runs/codec"
    model: EdmConfig = field(default_factory=EdmConfig)
    data: DataConfig = field(default_factory=DataConfig)
    variants: VariantConfig = field(default_factory=VariantConfig)
    windows: EdmWindows = field(default_factory=EdmWindows)
    loop: LoopConfig = field(default_factory=LoopConfig)
    rate: RateConfig = field(default_factory=RateConfig)


@dataclass(frozen=True)
class Cut:
    """A window of one octave with the octave above, as symbols."""

    own: Octave  # (side, side)
    above: Octave  # (side, side), every cell of the octave above twice a side
    inside: NDArray[np.bool_]  # (side, side)


class EdmStage:
    """Samples, loss and sheet of the stage."""

    def __init__(self, config: EdmTraining) -> None:
        self.config = config
        tables = EmbeddingTables.from_tensors(load_tables(Path(config.tables))[0])
        if tables.components != config.model.components:
            raise ConfigError(
                f"expected tables of {config.model.components} components, got "
                f"{tables.components}; set model.components"
            )
        pictures = load_pictures(config.data)
        variants = load_variants(pictures, config.variants)
        grids = load_grids(pictures, variants, tables)
        windows = config.windows
        self.composites = composites(
            grids, windows.composites, config.data.seed + 1, windows.fewest
        )
        self.sections = sections(grids, windows.fewest) or self.composites
        torch.manual_seed(config.loop.seed)
        self.model = TrainableEdm(config.model)
        if not (Path(config.folder) / checkpoint.NAME).exists():
            self._measure()

    @property
    def octaves(self) -> NDArray[np.float64]:
        """Shares of samples by octave."""
        shares = np.array(self.config.windows.octaves[: self.config.model.octaves])
        return np.asarray(shares / shares.sum())

    def _measure(self) -> None:
        """Set mean and deviation of the coefficients of every octave."""
        side = self.config.windows.sides[0]
        for octave in range(self.config.model.octaves):
            rows = []
            for number in range(STATISTICS):
                cut = self._cut(generator(self.config.loop.seed + 1, number), octave, side)
                rows.append(cut.own.vectors[cut.own.coverage > 0])
            found = np.concatenate(rows)
            deviation = np.maximum(found.std(0), FLOOR)
            self.model.mean[octave] = torch.from_numpy(found.mean(0))
            self.model.deviation[octave] = torch.from_numpy(deviation)

    def _cut(self, rng: np.random.Generator, octave: int, side: int) -> Cut:
        real = rng.random() < self.config.windows.sections
        planes = self.sections if real else self.composites
        plane, code = planes[int(rng.integers(len(planes)))], int(rng.integers(8))
        shape = plane.octaves[min(octave, len(plane.octaves) - 1)].coverage.shape
        places = rng.random((4, 2))
        best, most = (0, 0), -1.0
        for place in places:  # prefer windows with tissue
            corner = _corner(place, shape, side)
            share = float(_window(plane, octave, corner, side).coverage.mean())
            if share > most:
                best, most = corner, share
            if share > 0.3:
                break
        return _turned(_cut_at(plane, octave, best, side), code)

    def sample(self, index: int) -> Sample:
        """One window: clean, its noise, time, phase, octave, and what is told of the one above."""
        windows, model = self.config.windows, self.model
        rng = generator(self.config.loop.seed, index)
        side = windows.sides[index // self.config.loop.batch % len(windows.sides)]
        octave = int(rng.choice(len(self.octaves), p=self.octaves))
        phase = OUTLINE if rng.random() < windows.outline else CONTENT
        cut = self._cut(rng, octave, side)
        u = rng.uniform(0.002, 1)
        t = windows.shift * u / (1 + (windows.shift - 1) * u)
        above = self.channels(cut.above, min(octave + 1, model.config.octaves - 1))
        grain = rng.standard_normal(above.shape, np.float32)
        above = above + grain * np.float32(rng.random() * windows.noise)
        alone = rng.random() < windows.alone or octave + 1 >= model.config.octaves
        return {
            "clean": self.channels(cut.own, octave),
            "noise": rng.standard_normal(above.shape, np.float32),
            "t": np.array(t, np.float32),
            "phase": np.array(phase, np.int64),
            "octave": np.array(octave, np.int64),
            "parent": above,
            "has_parent": np.array(not alone, np.float32),
            "inside": cut.inside.astype(np.float32),
        }

    def channels(self, octave: Octave, number: int) -> Floats:
        """Coverage in [-1, 1] and whitened coefficients (h, w, 1 + k), zero where none is."""
        mean, deviation = self.model.mean[number].numpy(), self.model.deviation[number].numpy()
        covered = octave.coverage[..., None] > 0
        white = np.where(covered, (octave.vectors - mean) / deviation, np.float32(0))
        return np.concatenate([2 * octave.coverage[..., None] - 1, white], axis=-1)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error in units of the preconditioner's deviation, over what is noisy."""
        z, t, phase = batch["clean"], batch["t"], batch["phase"]
        x, noisy = noised(z, batch["noise"], t, phase)
        told = (batch[k] for k in ("octave", "parent", "has_parent", "inside"))
        clean, spread = self.model(x, t, phase, *told)
        error = ((clean - z) / spread).square() * noisy * self._weights(batch["octave"])
        each = error.sum((1, 2, 3)) / noisy.sum((1, 2, 3)).clamp_min(1)
        content = phase == CONTENT
        logs = {
            name: each[rows].detach().mean()
            for name, rows in (("content", content), ("outline", ~content))
            if rows.any()
        }
        return each.mean(), logs

    def _weights(self, octave: Tensor) -> Tensor:
        """Per channel (n, 1, 1, 1 + k), of mean one: coefficients count by their deviation."""
        deviation = self.model.deviation[octave]
        share = deviation / deviation.mean(1, keepdim=True)
        return torch.cat([torch.ones_like(share[:, :1]), share], 1)[:, None, None]

    def sheet(self) -> NDArray[np.uint8] | None:
        """No picture: what is drawn are vectors; `python -m benchmarks.novel` shows slides."""
        return None


def noised(z: Tensor, noise: Tensor, t: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
    """What goes into the network, and which of its values are noisy; both (n, h, w, 1 + k)."""
    time = t[:, None, None, None]
    mixed = (1 - time) * z + time * noise
    content = (phase == CONTENT)[:, None, None, None].expand_as(z)
    coverage = torch.arange(z.shape[-1], device=z.device) == 0
    tissue = (z[..., :1] > -1).expand_as(z)
    noisy = torch.where(coverage, ~content, content & tissue)
    kept = torch.where(coverage & content, z, torch.zeros_like(z))
    return torch.where(noisy, mixed, kept), noisy.float()


def _corner(place: NDArray[np.float64], shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Row and column of a window that reaches half its side out of the slide at most."""
    y, x = (
        int(-side // 2 + share * (max(n - side, 0) + side)) // ALIGN * ALIGN
        for share, n in zip(place, shape, strict=True)
    )
    return y, x


def _window(plane: Plane, octave: int, corner: tuple[int, int], side: int) -> Octave:
    """A square of an octave; nothing beyond the slide. Octaves past the last are its last cell."""
    whole = plane.octaves[min(octave, len(plane.octaves) - 1)]
    height, width = whole.coverage.shape
    y, x = corner
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(side, height - y), min(side, width - x)
    coverage = np.zeros((side, side), np.float32)
    vectors = np.zeros((side, side, whole.vectors.shape[2]), np.float32)
    if bottom > top and right > left:
        place = np.s_[y + top : y + bottom, x + left : x + right]
        coverage[top:bottom, left:right] = whole.coverage[place]
        vectors[top:bottom, left:right] = whole.vectors[place]
    return Octave(coverage, vectors)


def _cut_at(plane: Plane, octave: int, corner: tuple[int, int], side: int) -> Cut:
    own = _window(plane, octave, corner, side)
    above = _window(plane, octave + 1, (corner[0] // 2, corner[1] // 2), side // 2)
    twice = Octave(*(a.repeat(2, 0).repeat(2, 1) for a in (above.coverage, above.vectors)))
    height, width = plane.octaves[min(octave, len(plane.octaves) - 1)].coverage.shape
    rows, columns = np.arange(corner[0], corner[0] + side), np.arange(corner[1], corner[1] + side)
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return Cut(own, twice, inside)


def _turned(cut: Cut, code: int) -> Cut:
    from wsicodec.train.augment import turn

    def turned(values: Any) -> Any:
        return np.ascontiguousarray(turn(values, code))

    own, above = (Octave(turned(o.coverage), turned(o.vectors)) for o in (cut.own, cut.above))
    return Cut(own, above, turned(cut.inside))
