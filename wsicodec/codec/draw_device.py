"""From windows to tiles of bytes on a card, nothing but bytes crossing the bus.

The same as `draw.draw_windows` for the small family, networks, noise, colours and rounding on one
device. Calls are always of one number of windows, filled up where fewer wait: how a library sums
depends on the size of a batch, and a pixel must not.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsicodec import ops
from wsicodec.codec.draw import Pixels, Window
from wsicodec.codec.gather import Order
from wsicodec.diffusion.noise import noise_lanes, normal_table
from wsicodec.diffusion.schedule import FlowSchedule
from wsicodec.diffusion.tensors import lock_colours, noise_tensor
from wsicodec.diffusion.windows import (
    CELL,
    DOWN,
    HALO,
    WINDOW,
    latent_region,
    tile_window,
)
from wsicodec.geometry import LEVELS, PATCH
from wsicodec.models.bundle import Bundle
from wsicodec.models.fused_small import FastDenoiser, FastRenderer, Step, lanes
from wsicodec.models.replay import Direct, Replay
from wsicodec.models.torch_backend import CUDA_BATCH, load_small

PLACES = 2  # batches under way: while one is computed the next one is filled and sent


def way_of(steps: int) -> list[Step]:
    """The sampler's evaluations as steps of a straight way from noise (see `sampler.sample`)."""
    schedule, found = FlowSchedule(), []
    for t, s in pairwise(schedule.times(steps)):
        keep = schedule.sigma(s) / schedule.sigma(t)
        found.append(Step(t, t - s, keep, schedule.alpha(s) - keep * schedule.alpha(t)))
    return found


class Pipeline:
    """Parents in bytes, embeddings and places to tiles in bytes, without a look at the host."""

    def __init__(
        self, bundle: Bundle, steps: int, device: torch.device, kind: torch.dtype, batch: int
    ) -> None:
        """Prepare a bundle of the small family.

        Args:
            bundle: the weights.
            steps: evaluations per window.
            device: where everything runs.
            kind: of the convolutions.
            batch: windows per call.
        """
        denoiser, renderer = load_small(bundle, device)
        with torch.inference_mode():
            self._denoiser = FastDenoiser(denoiser, way_of(steps), kind)
            self._renderer = FastRenderer(renderer, kind)
        self._table = torch.from_numpy(normal_table()).to(device)
        # A halo weighs nothing, so that tiles stand under each other without what is around them.
        self._weights = torch.zeros((WINDOW, WINDOW), device=device)
        self._weights[HALO : HALO + PATCH, HALO : HALO + PATCH] = 1
        tops = torch.arange(batch, device=device, dtype=torch.int32) * PATCH - HALO
        self._origins = torch.stack((tops, torch.full_like(tops, -HALO)), 1)
        self._batch = batch

    def __call__(
        self, parent: Tensor, kind: Tensor, cond: Tensor, noise: Tensor, corners: Tensor
    ) -> Tensor:
        """Tiles (n, 256, 256, 3) of windows told as `inputs` holds them."""
        size = (WINDOW // DOWN, WINDOW // DOWN)
        told = self._denoiser.tell(parent, kind, cond)
        latent = self._denoiser.run(noise_tensor(noise, corners, size, self._table), told)
        drawn = self._renderer.run(latent, told).clamp(-1, 1)
        drawn = lock_colours(drawn, told.above, told.has_parent)
        picture = ops.blend_windows(
            drawn, self._weights, self._origins, (self._batch * PATCH, PATCH)
        )
        return picture.view(self._batch, PATCH, PATCH, 3)


def inputs(bundle: Bundle, kind: torch.dtype, batch: int) -> list[Tensor]:
    """Host memory for what `Pipeline` takes; embeddings are half as wide for narrow networks."""
    side, cells = WINDOW // 2, WINDOW // CELL
    real = torch.float32 if kind == torch.float32 else torch.float16
    return [
        torch.zeros((batch, side, side, 3), dtype=torch.uint8),
        torch.zeros(batch, dtype=torch.int64),
        torch.zeros((batch, lanes(bundle.embedding_width + 1), cells, cells), dtype=real),
        torch.zeros((batch, bundle.latent_channels), dtype=torch.int64),
        torch.zeros((batch, 2), dtype=torch.int64),
    ]


@lru_cache(256)
def _lanes(slide: str, level: int, channels: int) -> NDArray[np.int64]:
    return noise_lanes(slide, level, channels).view(np.int64)


class DeviceDrawing:
    """An engine for `gather.Gatherer`: places that batches of windows are drawn in."""

    def __init__(
        self,
        bundle: Bundle,
        steps: int,
        device: torch.device | str,
        batch: int = CUDA_BATCH,
        kind: torch.dtype | None = None,
    ) -> None:
        """Load a bundle of the small family; on a card this captures the graphs.

        Args:
            bundle: the weights.
            steps: evaluations per window.
            device: a card, or the CPU to compare with.
            batch: windows per call.
            kind: of the convolutions; bfloat16 on a card and float32 on the CPU by default.
        """
        self.batch, self._device = batch, torch.device(device)
        card = self._device.type == "cuda"
        kind = kind or (torch.bfloat16 if card else torch.float32)
        pipeline = Pipeline(bundle, steps, self._device, kind, batch)
        self._width = bundle.embedding_width + 1
        self._channels = bundle.latent_channels
        self._places: list[Replay] = []
        for _ in range(PLACES if card else 1):
            given = inputs(bundle, kind, batch)
            if card:
                from wsicodec.models.cuda_graph import Captured

                self._places.append(Captured(pipeline, given, self._device))
            else:
                self._places.append(Direct(pipeline, given))
        self._given: list[list[Any]] = [
            [tensor.numpy() for tensor in place.inputs] for place in self._places
        ]

    @property
    def places(self) -> int:
        """Batches that may be under way."""
        return len(self._places)

    def start(self, place: int, orders: Sequence[Order], *, download: bool) -> None:
        """Begin to draw up to `batch` windows in a place that is free."""
        # Rows beyond the orders are drawn as they are left: what is in them concerns no other row.
        for i, (slide, window) in enumerate(orders):
            self._fill(place, i, slide, window)
        self._places[place].start(download=download)

    def _fill(self, place: int, i: int, slide: str, window: Window) -> None:
        parent, kind, cond, noise, corners = self._given[place]
        if window.parent is not None:
            parent[i] = window.parent
        kind[i] = window.magnification + (LEVELS if window.parent is not None else 0)
        cond[i, : self._width] = window.embeddings
        noise[i] = _lanes(slide, window.level, self._channels)
        region = latent_region(tile_window(window.ty, window.tx))
        corners[i] = region.y0, region.x0

    def finish(self, place: int, count: int) -> list[Pixels]:
        """The first tiles (256, 256, 3) of what was started and downloaded there."""
        self._places[place].wait()
        return [tile.copy() for tile in self._places[place].answer().numpy()[:count]]

    def keep(self, place: int, count: int) -> list[Any]:
        """The same on the device."""
        self._places[place].wait()
        return self._places[place].kept(count)

    def empty(self, shape: tuple[int, int]) -> Any:
        """An RGB picture (h, w, 3) of bytes on the device, not filled."""
        return torch.empty((*shape, 3), dtype=torch.uint8, device=self._device)

    def put(self, pixels: Pixels) -> Any:
        """A picture of bytes on the device."""
        return torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)

    def settle(self) -> None:
        """Return when all that was asked of the device outside of places is done."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
