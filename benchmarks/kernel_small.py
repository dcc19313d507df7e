"""The small family end to end for `kernel_speed`: from a Python call to bytes, through the product.

What is timed is what a reader of a slide runs once its chunks are decoded: windows are handed to
the gatherer, drawn by the pipeline (on a card one CUDA graph) and handed back as arrays in host
memory. Correctness first: against the pipeline in float32 on the CPU, twice the same bytes, and
the same bytes alone as among others. That a batch of another size draws the same is not promised,
and is told.
"""

import json
import statistics
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.kernel_rounds import Stand
from benchmarks.kernel_targets import SMALL
from benchmarks.record import Row
from wsicodec.codec.draw import Recipe, Window, draw_windows
from wsicodec.codec.draw_device import DeviceDrawing
from wsicodec.codec.gather import Gatherer
from wsicodec.models.bundle import DEFAULT_BUNDLE, EMBEDDED, Bundle
from wsicodec.models.torch_backend import CUDA_BATCH

SLIDE = "ab" * 16
ALONE, TOGETHER, ROUNDS = 300, 4096, 3
FAR = 1.5  # mean grey values that bfloat16 may be off; see tests/codec/test_draw_device.py
_TYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "I64": np.int64}


class PlainBundle(Bundle):
    """A bundle read without the safetensors library, which the card's machine may lack."""

    def tensors(self, part: str) -> dict[str, NDArray[Any]]:
        data = self.read(part)
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        found = {}
        for name, told in header.items():
            if name != "__metadata__":
                low, high = (8 + length + n for n in told["data_offsets"])
                values = np.frombuffer(data[low:high], _TYPES[told["dtype"]])
                found[name] = values.reshape(told["shape"])
        return found


def windows(count: int, width: int) -> list[Window]:
    """Windows of one level side by side, with smooth parents and random embeddings."""
    rng, made = np.random.default_rng(0), []
    for i in range(count):
        parent = np.clip(rng.normal(190, 30, (20, 20, 3)).repeat(8, 0).repeat(8, 1), 0, 255)
        cond = rng.normal(size=(width + 1, 10, 10)).astype(np.float32)
        made.append(Window(0, i // 64, i % 64, 0, parent.astype(np.uint8), cond))
    return made


def wrong(gatherer: Gatherer, some: list[Window], bundle: Bundle, steps: int) -> tuple[float, str]:
    """Mean grey values off the CPU's, and why the pipeline is red: empty if it is green."""
    got, again = (np.stack(gatherer.draw(SLIDE, some)) for _ in range(2))
    exact = DeviceDrawing(bundle, steps, "cpu", batch=1)
    off = []
    for window, tile in zip(some[:2], got, strict=False):
        exact.start(0, [(SLIDE, window)], download=True)
        off.append(float(np.abs(exact.finish(0, 1)[0].astype(int) - tile).mean()))
    if max(off) > FAR:
        return max(off), f"off by {max(off):.2f} grey values on average, {FAR} allowed"
    if (got != again).any():
        return max(off), "differs from itself"
    if (gatherer.draw(SLIDE, some[-1:])[0] != got[-1]).any():
        return max(off), "a tile's bytes depend on the batch"
    return max(off), ""


def _alone(gatherer: Gatherer, given: list[Window], count: int) -> list[float]:
    """Seconds of single tiles, one after the other."""
    found = []
    for i in range(count):
        begun = time.perf_counter()
        gatherer.draw(SLIDE, given[i % len(given) :][:1])
        found.append(time.perf_counter() - begun)
    return found


def _together(gatherer: Gatherer, given: list[Window], count: int) -> float:
    """Seconds for many tiles at once."""
    many = [given[i % len(given)] for i in range(count)]
    begun = time.perf_counter()
    gatherer.draw(SLIDE, many)
    return time.perf_counter() - begun


def _speeds(stand: Stand, gatherer: Gatherer, given: list[Window], setting: str) -> list[Row]:
    alone, together, rounds = (
        (ALONE, TOGETHER, ROUNDS) if stand.on_card else (2, gatherer.engine.batch, 1)
    )
    _alone(gatherer, given, 2)
    times = sorted(_alone(gatherer, given, alone))
    rates = [together / _together(gatherer, given, together) for _ in range(rounds)]
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    spread = {"low": min(rates), "high": max(rates), "runs": rounds}
    return [
        stand.row(SMALL, setting, "tiles_per_second", statistics.median(rates), **spread),
        stand.row(SMALL, setting, "tiles_per_second_alone", len(times) / sum(times)),
        stand.row(SMALL, setting, "seconds_p50", statistics.median(times), unit="s"),
        stand.row(SMALL, setting, "seconds_p95", p95, unit="s"),
    ]


def _before(stand: Stand, bundle: Bundle, given: list[Window], steps: int) -> list[Row]:
    """The same by float32 arrays over the bus and one launch an operator, one tile at a time."""
    from wsicodec.models.torch_backend import TorchDrawing

    networks, recipe = TorchDrawing(bundle), Recipe(SLIDE, bundle.latent_channels, steps)
    count = 20 if stand.on_card else 1
    draw_windows(networks, recipe, given[:1])
    begun = time.perf_counter()
    for window in given[:count]:
        draw_windows(networks, recipe, [window])
    rate = min(count, len(given)) / (time.perf_counter() - begun)
    return [stand.row(SMALL, "float32, op by op", "tiles_per_second_alone", rate)]


def measure(stand: Stand) -> list[Row]:
    """Rows of all batch sizes; a red one has no speed."""
    bundle = PlainBundle(EMBEDDED / DEFAULT_BUNDLE)
    steps = bundle.steps
    given = windows(256 if stand.on_card else 3, bundle.embedding_width)
    rows, first = [], None
    for batch in (CUDA_BATCH, 1, 64) if stand.on_card else (2, 1):
        setting = f"batch {batch}"
        engine = DeviceDrawing(bundle, steps, stand.draw.device, batch, stand.draw.dtype)
        gatherer = Gatherer(engine)
        off, red = wrong(gatherer, given[:3], bundle, steps)
        rows.append(stand.row(SMALL, setting, "error", off, unit="of 255", note=red or "green"))
        if red:
            continue
        rows += _speeds(stand, gatherer, given, setting)
        tiles = np.stack(gatherer.draw(SLIDE, given[:16]))
        first = tiles if first is None else first
        same = float((tiles == first).mean())
        rows.append(stand.row(SMALL, setting, "bytes_equal_to_the_first_batch_size", same))
        del gatherer, engine
        if stand.on_card:
            torch.cuda.empty_cache()
    return rows + _before(stand, bundle, given, steps)
