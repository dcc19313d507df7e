"""A whole novel grid of embeddings from a seed: octave by octave, outline first, then content.

The coarsest octave fits one window, or nearly; every finer one is told of it, as ZoomLDM draws its
pixels. Noise is a field keyed by seed, octave and place, so a cell follows from the seed alone.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.entropy_model import MAX_SYMBOL
from wsicodec.coding.quantizer import EmbeddingTables, dequantize
from wsicodec.diffusion.noise import GRAIN, noise_field
from wsicodec.diffusion.sampler import sample
from wsicodec.diffusion.schedule import FlowSchedule
from wsicodec.errors import ConfigError
from wsicodec.geometry import Region
from wsicodec.models.edm import EdmNetwork
from wsicodec.models.edm_config import CONTENT, OUTLINE
from wsicodec.models.sketch import SIDE, Sketch
from wsicodec.synthesis.windows import Plane

Floats = NDArray[np.float32]
Progress = Callable[[int, int, str], None]  # octaves done, octaves in all, "octaves"
STEPS = 24  # evaluations per octave and phase
FAINT = 0.03  # of a coarse cell; less coverage than this is glass
MOST_CELLS = 1 << 16  # of a grid


@dataclass(frozen=True)
class NovelGrid:
    """What stands for a slide that never was."""

    tissue: NDArray[np.bool_]  # (gh, gw)
    symbols: NDArray[np.int32]  # (n, k) of the cells with tissue, row by row
    key: str  # of its noise


def draw_grid(
    network: EdmNetwork,
    shape: tuple[int, int],
    seed: int,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> NovelGrid:
    """Draw a grid of symbols and its tissue.

    Args:
        network: draws windows.
        shape: rows and columns of patches.
        seed: another one gives another slide.
        steps: of the sampler, per octave and phase.
        progress: called when an octave is done.

    Raises:
        ConfigError: a grid without cells or with more than 2**16.
    """
    if min(shape) < 1 or shape[0] * shape[1] > MOST_CELLS:
        raise ConfigError(
            f"expected a grid of 1 to {MOST_CELLS} patches, got {shape[0]} x {shape[1]}; "
            "choose another size"
        )
    key = noise_key(seed, network.digest)
    first, parent = coarsest(shape, network), None
    for octave in range(first, -1, -1):
        parent = draw_octave(network, octave_shape(shape, octave), octave, key, parent, steps)
        if progress is not None:
            progress(first - octave + 1, first + 1, "octaves")
    assert parent is not None
    tissue = np.asarray(parent[..., 0] > 0)
    raw = parent[tissue][:, 1:] * network.deviation[0] + network.mean[0]
    symbols = np.clip(np.rint(raw), -MAX_SYMBOL, MAX_SYMBOL).astype(np.int32)
    return NovelGrid(tissue, symbols, key)


def sketch_of(
    grid: NovelGrid, sketch: Sketch, tables: EmbeddingTables, glass: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """The sketch (gh * SIDE, gw * SIDE, 3) of a grid.

    tables: of embeddings, the bundle's own.
    glass: RGB of cells without tissue.
    """
    rows, columns = grid.tissue.shape
    vectors = np.zeros((rows, columns, tables.width), np.float32)
    vectors[grid.tissue] = dequantize(grid.symbols, tables)
    grain = noise_field(grid.key, GRAIN, Region(0, 0, rows * SIDE, columns * SIDE), 1)[0]
    return sketch.draw(vectors, grid.tissue, grain, glass)


def noise_key(seed: int, digest: str) -> str:
    """The key of the noise: hexadecimal, of the seed and the model."""
    return hashlib.sha256(f"wsicodec sample {seed} {digest}".encode()).hexdigest()


def octave_shape(shape: tuple[int, int], octave: int) -> tuple[int, int]:
    """Rows and columns of a grid in cells of 2**octave patches."""
    return -(-shape[0] >> octave), -(-shape[1] >> octave)


def coarsest(shape: tuple[int, int], network: EdmNetwork) -> int:
    """The octave at which a grid fits one window, or the coarsest that the network knows."""
    config = network.config
    fits = (o for o in range(config.octaves) if max(octave_shape(shape, o)) <= config.window)
    return next(fits, config.octaves - 1)


def draw_octave(
    network: EdmNetwork,
    shape: tuple[int, int],
    octave: int,
    key: str,
    parent: Floats | None,
    steps: int = STEPS,
) -> Floats:
    """The channels (h, w, 1 + k) of one octave: coverage in [-1, 1] and whitened coefficients.

    Args:
        network: draws windows.
        shape: rows and columns of the octave's cells.
        octave: 0 for cells of one patch.
        key: of the noise.
        parent: (h', w', 1 + k) the octave above, or None.
        steps: of the sampler, per phase.
    """
    plane = Plane(shape, network.config.window)
    above = None if parent is None else plane.pad(_doubled(parent, shape), _glass(network))
    job = _Octave(network, plane, octave, key, above, steps)
    coverage = np.clip(job.outline(), -1, 1)
    share = np.where(coverage > 0, 1, 0) if octave == 0 else (coverage + 1) / 2
    share = np.where((share < FAINT) | ~plane.inside[..., None], 0, share)
    coverage = np.asarray(2 * share - 1, np.float32)
    both = np.concatenate([coverage, job.content(coverage)], axis=-1)
    return np.ascontiguousarray(both[plane.own])


def _doubled(parent: Floats, shape: tuple[int, int]) -> Floats:
    return parent.repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]


def _glass(network: EdmNetwork) -> Floats:
    """The channels of a cell without tissue."""
    found = np.zeros(network.config.channels, np.float32)
    found[0] = -1
    return found


@dataclass(frozen=True)
class _Octave:
    """One octave being drawn."""

    network: EdmNetwork
    plane: Plane
    octave: int
    key: str
    above: Floats | None  # padded
    steps: int

    def outline(self) -> Floats:
        """Coverage (h, w, 1) of the padded plane, not clipped."""
        blank = np.zeros((*self.plane.padded, self.network.config.components), np.float32)
        return self._sample(
            OUTLINE, 1, self.plane.inside, lambda x: np.concatenate([x, blank], axis=-1)
        )

    def content(self, coverage: Floats) -> Floats:
        """Coefficients (h, w, k) of the padded plane; zero where nothing is covered."""
        covered = coverage > -1
        found = self._sample(
            CONTENT,
            self.network.config.components,
            covered[..., 0],
            lambda x: np.concatenate([coverage, np.where(covered, x, np.float32(0))], axis=-1),
        )
        return np.where(covered, found, np.float32(0))

    def _sample(
        self,
        phase: int,
        channels: int,
        needed: NDArray[np.bool_],
        fill: Callable[[Floats], Floats],
    ) -> Floats:
        """Follow the flow of `channels` channels; `fill` adds those that are given."""
        rows, columns = self.plane.padded
        margin = self.plane.margin
        region = Region(-margin, -margin, rows - margin, columns - margin)
        noise = noise_field(self.key, 2 * self.octave + phase, region, channels)
        kept = slice(0, 1) if phase == OUTLINE else slice(1, None)

        def clean(x: Floats, t: float, step: float) -> Floats:  # noqa: ARG001
            whole = fill(x)

            def windows(at: Sequence[tuple[int, int]]) -> Floats:
                cut = self.plane.cut
                above = None if self.above is None else cut(self.above, at)
                inside = np.asarray(cut(self.plane.inside, at), np.bool_)
                found = self.network.clean(cut(whole, at), t, phase, self.octave, above, inside)
                return found[..., kept]

            return self.plane.blend(windows, needed, channels)

        schedule = FlowSchedule()
        x = np.ascontiguousarray(noise.transpose(1, 2, 0))
        return np.asarray(sample(clean, x, schedule, schedule.times(self.steps)), np.float32)
