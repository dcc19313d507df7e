"""Stage `zoomldm`: summarizer and U-Net together, all magnifications, from variants made before."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec.coding.quantizer import EmbeddingTables, dequantize, quantize
from wsicodec.diffusion.windows import conditioning_map, embedding_region
from wsicodec.errors import ConfigError
from wsicodec.geometry import Region
from wsicodec.models.autoencoder import FACTOR
from wsicodec.models.blocks import channels_last
from wsicodec.models.renderer import Renderer
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig
from wsicodec.train import checkpoint
from wsicodec.train.bundle import load_autoencoder, load_tables, load_zoomldm
from wsicodec.train.data import DataConfig, Sampler, Window, generator
from wsicodec.train.few_steps import between, moved
from wsicodec.train.guess import fit_guess
from wsicodec.train.learning_rate import RateConfig
from wsicodec.train.loop import LoopConfig, Sample, collate
from wsicodec.train.parents import ParentConfig, draw_parent
from wsicodec.train.streamed import StreamedVariant, open_variants
from wsicodec.train.variants import Variant, VariantConfig

CELL = 32  # pixels of a conditioning cell; corners of windows lie on it


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """How noise levels are drawn and errors weighed."""

    pure: float = 0.25  # share of samples at t = 1, where every chain begins
    earliest: float = 0.03  # smallest t
    floor: float = 0.15  # posterior deviation below which errors count less
    drop: float = 0.1  # share of samples without embeddings


@dataclass(frozen=True, slots=True)
class ZoomTraining:
    """One run of the stage."""

    folder: str = "runs/zoomldm"
    start: str = ""  # run whose averaged denoiser is the start
    autoencoder: str = "runs/autoencoder"
    tables: str = "runs/codec"  # empty: no embeddings yet
    sides: tuple[int, ...] = (256, 192, 256, 320)  # pixels of a window, batch after batch
    model: ZoomLDMConfig = field(default_factory=ZoomLDMConfig)
    data: DataConfig = field(
        default_factory=lambda: DataConfig(
            magnifications=(0.42, 0.32, 0.1, 0.05, 0.04, 0.03, 0.02, 0.02)
        )
    )
    variants: VariantConfig = field(default_factory=VariantConfig)
    parents: ParentConfig = field(default_factory=ParentConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
    rate: RateConfig = field(default_factory=RateConfig)


@dataclass(frozen=True)
class Grid:
    """An embedding grid as the decoder will see it, divided by the bundle's scale."""

    vectors: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def under(self, region: Region, level: int) -> NDArray[np.float32]:
        """The conditions of a window, see `conditioning_map`."""
        return conditioning_map(self.vectors, self.valid, (0, 0), region, level)


@dataclass(frozen=True)
class StoredGrid:
    """The same of a slide whose raw grid stays on disk."""

    variant: StreamedVariant
    tables: EmbeddingTables
    scale: float

    def under(self, region: Region, level: int) -> NDArray[np.float32]:
        """The conditions of a window; raises ConfigError where there is no grid yet."""
        found = self.variant.embeddings()
        if found is None:
            raise ConfigError(
                f"expected embeddings of {self.variant.slide.name} in {self.variant.grid}; "
                "run the stage `variants` first"
            )
        grid, valid = found
        cells = embedding_region(region, level).clip(self.variant.cells)
        part = valid[cells.slices()]
        vectors = _decoded(np.asarray(grid[cells.slices()]), part, self.tables, self.scale)
        return conditioning_map(vectors, part, (cells.y0, cells.x0), region, level)


def decoded_grid(variant: Variant, tables: EmbeddingTables, scale: float) -> Grid | None:
    """The grid after quantisation, exactly as the bitstream carries it."""
    found = variant.embeddings()
    if found is None or not found[1].any():
        return None
    return Grid(_decoded(*found, tables, scale), found[1])


def _decoded(
    grid: NDArray[np.floating], valid: NDArray[np.bool_], tables: EmbeddingTables, scale: float
) -> NDArray[np.float32]:
    vectors = np.zeros(grid.shape, np.float32)
    vectors[valid] = dequantize(quantize(grid[valid], tables), tables) / np.float32(scale)
    return vectors


def stored_grid(
    variant: Variant | StreamedVariant, tables: EmbeddingTables, scale: float
) -> Grid | StoredGrid | None:
    """What gives a variant's conditions; None where it has none, as an overview."""
    if isinstance(variant, StreamedVariant):
        return None if variant.kind == "overview" else StoredGrid(variant, tables, scale)
    return decoded_grid(variant, tables, scale)


class ZoomStage:
    """Samples, loss and sheet of the stage."""

    def __init__(self, config: ZoomTraining, fresh: bool = True, pixels: bool = False) -> None:
        """`fresh` sets the denoiser's start unless the run folder has a checkpoint.

        pixels: whether samples carry the real pixels as well, `rgb` (3, side, side) uint8.
        """
        self.config, self.pixels = config, pixels
        self.autoencoder = channels_last(load_autoencoder(Path(config.autoencoder))[0])
        self.autoencoder.requires_grad_(requires_grad=False)
        self.variants = open_variants(config.data, config.variants, self.autoencoder)
        self.samplers = {s: Sampler(self.variants, config.data, s) for s in set(config.sides)}
        self.grids: list[Grid | StoredGrid | None] = [None] * len(self.variants)
        if config.tables:
            tensors, scale = load_tables(Path(config.tables))
            tables = EmbeddingTables.from_tensors(tensors)
            self.grids = [stored_grid(v, tables, scale) for v in self.variants]
        torch.manual_seed(config.loop.seed)
        self.model = channels_last(ZoomLDM(config.model))
        if fresh and not (Path(config.folder) / checkpoint.NAME).exists():
            if config.start:
                self.model.load_state_dict(load_zoomldm(Path(config.start))[0].state_dict())
            fit_guess(self.model, [self.sample(-1 - 16 * i) for i in range(256)])

    def sample(self, index: int) -> Sample:
        """One window: clean latent, noise, time, step, parent, conditioning and magnification."""
        config = self.config
        rng = generator(config.loop.seed, index & (2**63 - 1))
        side = config.sides[index // config.loop.batch % len(config.sides)]
        sampler = self.samplers[side]
        window = sampler.draw(rng, side, CELL)
        variant = self.variants[window.picture]
        cells = side // FACTOR
        latent = variant.latent(window.level, window.y, window.x, side)
        parent = draw_parent(rng, variant, window, config.parents)
        pixels = np.zeros((side // 2, side // 2, 3), np.float32)
        if parent is not None:
            pixels = parent * np.float32(2 / 255) - np.float32(1)
        t = 1.0 if rng.random() < config.flow.pure else rng.uniform(config.flow.earliest, 1)
        dt = min(t, float(rng.choice([1.0, 0.5, 0.25, 0.125])))
        dropped = rng.random() < config.flow.drop
        rgb = {}
        if self.pixels:
            rgb["rgb"] = np.array(
                variant.crop(window.level, window.y, window.x, side).transpose(2, 0, 1)
            )
        return rgb | {
            "latent": np.ascontiguousarray(latent.transpose(2, 0, 1)).astype(np.float32),
            "noise": rng.standard_normal((latent.shape[2], cells, cells), np.float32),
            "t": np.array(t, np.float32),
            "dt": np.array(dt, np.float32),
            "parent": np.ascontiguousarray(pixels.transpose(2, 0, 1)),
            "has_parent": np.array(parent is not None, np.float32),
            "cond": self._conditions(window, dropped),
            "mag": np.array(variant.mag_index + window.level, np.int64),
        }

    def _conditions(self, window: Window, dropped: bool) -> NDArray[np.float32]:
        grid = self.grids[window.picture]
        cells = window.side // CELL
        if grid is None or dropped:
            width = self.config.model.summarizer.embedding_width
            return np.zeros((width + 1, cells, cells), np.float32)
        region = Region(window.y, window.x, window.y + window.side, window.x + window.side)
        return grid.under(region, window.level)

    def loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `squared_error`."""
        loss, logs, _ = self.squared_error(batch)
        return loss, logs

    def squared_error(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Squared error in units of the Gaussian posterior's deviation, logs, and the estimate."""
        weighted, plain, ours = self.errors(batch, batch["latent"])
        start = plain[batch["t"] == 1]
        logs = {"error": plain.mean()}
        return weighted.mean(), logs | ({"error_start": start.mean()} if len(start) else {}), ours

    def errors(self, batch: dict[str, Tensor], wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Squared errors (n,) of the batch's estimates in those units and plain, and the estimates.

        wanted: what should be estimated, (n, c, h, w).
        """
        t = batch["t"]
        z = batch["latent"].contiguous(memory_format=torch.channels_last)
        told = (batch[k] for k in ("parent", "has_parent", "cond", "mag"))
        x = between(z, batch["noise"], t)
        ours, spread = self.model.estimate(x, t, batch["dt"], *told)
        error = (ours - wanted).square()
        weight = 1 / (spread.detach().square() + self.config.flow.floor**2)
        return (weight * error).mean((1, 2, 3)), error.detach().mean((1, 2, 3)), ours

    def sheet_batch(self) -> dict[str, Tensor]:
        """Samples that are not trained on, always the same."""
        return collate([self.sample(2**40 + 64 * i) for i in range(6)])

    def sheet(self, steps: int = 4) -> NDArray[np.uint8]:
        """Per column: the parent enlarged, what is drawn in `steps`, the decoded truth."""
        batch = self.sheet_batch()
        drawn = self.autoencoder.decode(draw(self.model, batch, steps))
        return sheet_of(batch["parent"], drawn, self.autoencoder.decode(batch["latent"]))


def sheet_of(parent: Tensor, drawn: Tensor, real: Tensor) -> NDArray[np.uint8]:
    """Parents enlarged, (n, 3, h / 2, w / 2), over pictures (n, 3, h, w), around [-1, 1] all."""
    above = torch.nn.functional.interpolate(parent, scale_factor=2.0)
    whole = torch.cat([torch.cat(list(row.float()), 2) for row in (above, drawn, real)], 1)
    image: NDArray[np.uint8] = (
        whole.clamp(-1, 1).add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy(force=True)
    )
    return image


def render(renderer: Renderer, batch: dict[str, Tensor], latent: Tensor) -> Tensor:
    """Pixels (n, 3, 8h, 8w) of latents over the batch's parents."""
    parent = batch["parent"].contiguous(memory_format=torch.channels_last)
    rgb: Tensor = renderer(latent, parent, batch["has_parent"], batch["mag"])
    return rgb


@torch.no_grad()
def draw(model: ZoomLDM, batch: dict[str, Tensor], steps: int) -> Tensor:
    """Latents drawn from the batch's noise in `steps` even steps, as the codec does."""
    x = batch["noise"]
    told = [batch[k] for k in ("parent", "has_parent", "cond", "mag")]
    for i in range(steps):
        t = x.new_full((len(x),), 1 - i / steps)
        step = torch.full_like(t, 1 / steps)
        x = moved(x, model(x, t, step, *told), t, step)
    return x
