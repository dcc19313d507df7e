"""The main job's figures: rates, encoding speed and memory, decoding speed, work counted.

    python -m benchmarks.main_job rates SLIDE...    bytes of all four presets
    python -m benchmarks.main_job encode SLIDE      pipeline against its slower single stage
    python -m benchmarks.main_job memory            peak of encoding a small and a large drawn slide
    python -m benchmarks.main_job crop SLIDE        a 1024 x 1024 crop of level 0, cold
    python -m benchmarks.main_job count SLIDE       windows drawn for a whole level, latents decoded
    python -m benchmarks.main_job seams SLIDE       grey steps across tile borders against inside,
                                                    and against what one window draws there
    python -m benchmarks.main_job imports           seconds of `import wsicodec`

Rows go to benchmarks/results/main_job.csv.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import zarr

import wsicodec
from benchmarks.record import Row, write
from benchmarks.window_borders import over_own
from wsicodec.codec.state import state
from wsicodec.diffusion.windows import WINDOW
from wsicodec.geometry import PATCH, Region, grid_shape, level_shape
from wsicodec.models.bundle import load_bundle
from wsicodec.models.networks import load_embedder
from wsicodec.presets import PRESETS
from wsicodec.slide import draw_slide, open_slide
from wsicodec.slide.tissue import find_tissue

NAME = "main_job"
_CHOICES = ("rates", "encode", "memory", "crop", "count", "seams", "imports")
_CHILD = """
import resource, sys, wsicodec
wsicodec.encode(sys.argv[1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / 1024)
"""


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rates(slides: list[Path], mpp: float | None) -> list[Row]:
    rows = []
    for slide in slides:
        for preset in PRESETS:
            with _folder() as folder:
                report = wsicodec.encode(slide, folder / "s.zarr", preset=preset, mpp=mpp)
            for metric, value in (
                ("bpp_tissue", report.bpp_tissue),
                ("bpp_slide", report.bpp_slide),
                ("bytes", float(report.bytes)),
                ("tissue_patches", float(report.patches)),
            ):
                unit = "bit/px" if metric.startswith("bpp") else "1"
                rows.append(Row("rates", slide.name, preset, metric, value, unit))
            print(f"{slide.name} {preset}: {report.bpp_tissue:.4f} bpp on tissue", flush=True)
    return rows


def encode(slide: Path, mpp: float | None, rounds: int) -> list[Row]:
    """Interleaved rounds of: reading alone, embedding alone, the whole of `wsicodec.encode`."""
    bundle = load_bundle()
    embed = load_embedder(bundle)
    with open_slide(slide, mpp=mpp) as opened:
        cells = np.argwhere(find_tissue(opened).grid)
        shape = opened.shape
    spent: dict[str, list[float]] = {"read": [], "embed": [], "pipeline": []}
    for _ in range(rounds):
        began = time.perf_counter()
        patches = np.stack(_read_all(slide, mpp, cells))
        spent["read"].append(time.perf_counter() - began)
        spent["embed"].append(_seconds(partial(embed, patches)))
        with _folder() as folder:
            job = partial(wsicodec.encode, slide, folder / "s.zarr", mpp=mpp)
            spent["pipeline"].append(_seconds(job))
    ratios = [
        max(r, e) / p
        for r, e, p in zip(spent["read"], spent["embed"], spent["pipeline"], strict=True)
    ]
    area = shape[0] * shape[1] / 1e6
    rows = [_spread("encode", slide.name, "standard", "of_slower_stage", ratios, "1")]
    for stage, times in spent.items():
        rates_ = [len(cells) / t for t in times]
        rows.append(_spread("encode", slide.name, stage, "patches_per_s", rates_, "1/s"))
    whole = [area / t for t in spent["pipeline"]]
    rows.append(_spread("encode", slide.name, "pipeline", "slide_Mpx_per_s", whole, "Mpx/s"))
    return rows


def _read_all(slide: Path, mpp: float | None, cells: np.ndarray) -> list[np.ndarray]:
    with open_slide(slide, mpp=mpp) as opened:
        return [opened.read(Region(y, x, y + 1, x + 1).scale_up(PATCH)) for y, x in cells.tolist()]


def memory(small: int, large: int) -> list[Row]:
    peaks = {}
    with _folder() as folder:
        for side in (small, large):
            slide = folder / f"{side}.tif"
            draw_slide(slide, size=(side, side), seed=1)
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, slide, folder / f"{side}.zarr"],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks[side] = float(done.stdout.split()[-1])
            slide.unlink()
            print(f"{side}: {peaks[side]:.0f} MiB", flush=True)
    rows = [Row("memory", f"drawn {s}", "standard", "peak", p, "MiB") for s, p in peaks.items()]
    ratio = peaks[large] / peaks[small]
    return [*rows, Row("memory", f"drawn {large}/{small}", "standard", "peak_ratio", ratio, "1")]


def crop(slide: Path, mpp: float | None, rounds: int) -> list[Row]:
    """A 1024 x 1024 crop of tissue, all of its ancestors drawn anew in every round."""
    rates_: dict[str, list[float]] = {"cold": [], "whole chunks": []}
    with _folder() as folder:
        wsicodec.encode(slide, folder / "s.zarr", mpp=mpp)
        level = zarr.open_group(folder / "s.zarr", mode="r")["0"]
        tissue = zarr.open_group(folder / "s.zarr", mode="r")["tissue"][...] == 1
        y, x = _densest(tissue, 4)
        level[:1, :1]  # loads the networks
        for _ in range(rounds):
            for name, margin in (("cold", 0), ("whole chunks", 128)):
                state().tiles.cache.__init__(state().tiles.cache.limit)  # type: ignore[misc]
                top, left = y * PATCH + margin, x * PATCH + margin
                spent = _seconds(lambda t=top, s=left: level[t : t + 1024, s : s + 1024])
                rates_[name].append(16 / spent)
    return [
        _spread("crop", slide.name, name, "tiles_per_s", values, "1/s")
        for name, values in rates_.items()
    ]


def _densest(tissue: np.ndarray, side: int) -> tuple[int, int]:
    """Where `side` x `side` patches hold the most tissue; starts on whole 1024-pixel chunks."""
    best = max(
        ((tissue[i : i + side, j : j + side].sum(), i, j))
        for i in range(0, max(1, tissue.shape[0] - side), side)
        for j in range(0, max(1, tissue.shape[1] - side), side)
    )
    return int(best[1]), int(best[2])


def count(slide: Path, mpp: float | None) -> list[Row]:
    with _folder() as folder:
        wsicodec.encode(slide, folder / "s.zarr", mpp=mpp)
        group = zarr.open_group(folder / "s.zarr", mode="r")
        before = dict(state().drawn)
        height = group["0"].shape[0]
        for top in range(0, height, 1024):
            group["0"][top : top + 1024]
        drawn = {k: n - before.get(k, 0) for k, n in state().drawn.items()}
        generated = int((group["tissue"][...] == 1).sum())
        tiles = grid_shape(level_shape(group["0"].shape[:2], 0))
    total = sum(drawn.values())
    note = f"{generated} generated of {tiles[0] * tiles[1]} tiles; by level {drawn}"
    name, latents = slide.name, (WINDOW / PATCH) ** 2
    return [
        Row("count", name, "whole level 0", "windows_per_own", total / drawn[0], "1", note=note),
        Row("count", name, "any", "decoded_latents_per_output_latent", latents, "1"),
    ]


def seams(slide: Path, mpp: float | None) -> list[Row]:
    """Mean absolute step between neighbouring pixels on tile borders, over that inside tiles.

    Inside is every 64 pixels, where the anchor's blocks end as they do on the borders: at the rates
    that `standard` allows they alone make steps a third larger than elsewhere.
    """
    rows = []
    with _folder() as folder:
        wsicodec.encode(slide, folder / "s.zarr", mpp=mpp)
        group = zarr.open_group(folder / "s.zarr", mode="r")
        y, x = _densest(group["tissue"][...] == 1, 8)
        for level in (0, 1):
            place = np.s_[y * PATCH >> level : (y + 8) * PATCH >> level]
            across = np.s_[x * PATCH >> level : (x + 8) * PATCH >> level]
            grey = group[str(level)][place, across].astype(np.float64).mean(2)
            steps = [np.abs(np.diff(grey, axis=axis)).mean(1 - axis) for axis in (0, 1)]
            at = [np.arange(1, len(s) + 1) for s in steps]
            border = np.concatenate([s[i % PATCH == 0] for s, i in zip(steps, at, strict=True)])
            within = [(i % 64 == 0) & (i % PATCH != 0) for i in at]
            inside = np.concatenate([s[i] for s, i in zip(steps, within, strict=True)])
            ratio = border.mean() / inside.mean()
            tiles = Region(y, x, y + 8, x + 8).scale_down(1 << level)
            own = over_own(group, level, tiles.clip(grid_shape(group[str(level)].shape[:2])))
            print(f"{slide.name} level {level}: {ratio:.4f}, over the windows' own {own:.4f}")
            for figure, value in (("border_step", ratio), ("border_over_own_step", own)):
                rows.append(Row("seams", slide.name, f"level {level}", figure, value, "1"))
    return rows


def imports(rounds: int) -> list[Row]:
    code = "import time; t = time.perf_counter(); import wsicodec; print(time.perf_counter() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(rounds)
    ]
    return [_spread("imports", "import wsicodec", "", "seconds", times, "s")]


def _spread(
    benchmark: str, subject: str, setting: str, metric: str, values: list[float], unit: str
) -> Row:
    middle = statistics.median(values)
    row = Row(
        benchmark,
        subject,
        setting,
        metric,
        middle,
        unit,
        low=min(values),
        high=max(values),
        runs=len(values),
    )
    print(f"{subject} {setting} {metric}: {middle:.4g} ({min(values):.4g} to {max(values):.4g})")
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=list(_CHOICES))
    parser.add_argument("slides", nargs="*", type=Path)
    parser.add_argument("--mpp", type=float, help="of the slides, where their files do not say")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs=2, default=[10_000, 40_000], help="of memory")
    options = parser.parse_args()
    run: dict[str, Callable[[], list[Row]]] = {
        "rates": lambda: rates(options.slides, options.mpp),
        "encode": lambda: encode(options.slides[0], options.mpp, options.rounds),
        "memory": lambda: memory(*options.sizes),
        "crop": lambda: crop(options.slides[0], options.mpp, options.rounds),
        "count": lambda: count(options.slides[0], options.mpp),
        "seams": lambda: seams(options.slides[0], options.mpp),
        "imports": lambda: imports(options.rounds),
    }
    print(write(NAME, run[options.what]()))


if __name__ == "__main__":
    main()
