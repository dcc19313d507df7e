"""Encoding and decoding by slide size: speed, memory, and how both grow.

    python -m benchmarks.throughput [--sizes 4096 8192 16384] [--rounds 3] [--preset standard]

Every slide is drawn, and every figure comes from a process of its own: encoding a slide, and
drawing 1024 x 1024 crops of its densest tissue with all their ancestors, cold. Processor seconds
are those of all threads, imports included. The last rows say the exponent of growth with the
pixels: 1 is in proportion, 0 is not at all. Some eight minutes on two idle cores. Rows go to
results/throughput.csv.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.record import RESULTS, Row, write
from wsicodec.slide import draw_slide

NAME = "throughput"
_ENCODE = """
import json, resource, sys, time, wsicodec
began = time.perf_counter()
report = wsicodec.encode(sys.argv[1], sys.argv[2], preset=sys.argv[3], overwrite=True)
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime,
                  "peak": used.ru_maxrss / 1024, "patches": report.patches,
                  "bytes": report.bytes}))
"""
_DECODE = """
import json, resource, sys, time, numpy as np, wsicodec
group = wsicodec.open(sys.argv[1])
tissue = group["tissue"][...] == 1
side, places = 4, []
for y in range(0, max(1, tissue.shape[0] - 3), side):
    for x in range(0, max(1, tissue.shape[1] - 3), side):
        places.append((int(tissue[y:y + side, x:x + side].sum()), y * 256, x * 256))
places = sorted(places, reverse=True)[:int(sys.argv[2])]
group["0"][:1, :1]
began = time.perf_counter()
for _, y, x in places:
    group["0"][y:y + 1024, x:x + 1024]
seconds = time.perf_counter() - began
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": seconds, "cpu": used.ru_utime + used.ru_stime,
                  "peak": used.ru_maxrss / 1024, "tiles": sum(p[0] for p in places)}))
"""


def child(code: str, *arguments: object) -> dict[str, float]:
    """What a process of its own printed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(slide: Path, store: Path, preset: str, rounds: int) -> dict[str, list[float]]:
    """Figures of every round by name."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        made = child(_ENCODE, slide, store, preset)
        drawn = child(_DECODE, store, 8)
        for name, value in (
            ("encode_seconds", made["seconds"]),
            ("encode_cpu_seconds", made["cpu"]),
            ("encode_patches_per_s", made["patches"] / made["seconds"]),
            ("encode_peak", made["peak"]),
            ("store_bytes", made["bytes"]),
            ("decode_cpu_seconds_per_tile", drawn["cpu"] / drawn["tiles"]),
            ("decode_tiles_per_s", drawn["tiles"] / drawn["seconds"]),
            ("decode_peak", drawn["peak"]),
        ):
            found.setdefault(name, []).append(value)
    return found


UNITS = {
    "encode_seconds": "s",
    "encode_cpu_seconds": "s",
    "decode_cpu_seconds_per_tile": "s",
    "encode_patches_per_s": "1/s",
    "encode_peak": "MiB",
    "store_bytes": "B",
    "decode_tiles_per_s": "1/s",
    "decode_peak": "MiB",
}


def growth(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The exponent of a figure's growth with the pixels, by least squares of logarithms."""
    return float(np.polyfit(2 * np.log(sizes), np.log(values), 1)[0])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.throughput")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of throughput.csv")
    given = parser.parse_args(arguments)
    rows, middles = [], dict[str, list[float]]()
    for side in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            slide = Path(folder) / "slide.tif"
            draw_slide(slide, size=(side, side), seed=1)
            found = measure(slide, Path(folder) / "s.zarr", given.preset, given.rounds)
        for name, values in found.items():
            middle = statistics.median(values)
            middles.setdefault(name, []).append(middle)
            rows.append(
                Row(NAME, f"drawn {side} x {side}", given.preset, name, middle, UNITS[name],
                    min(values), max(values), len(values))
            )  # fmt: skip
            print(f"{side} {name}: {middle:.4g} {UNITS[name]}", flush=True)
    if len(given.sizes) > 1:
        subject = f"drawn {min(given.sizes)} to {max(given.sizes)}"
        rows += [
            Row(NAME, subject, given.preset, f"{name}_growth", growth(given.sizes, values), "1")
            for name, values in middles.items()
        ]
    print(write(NAME, rows, given.out))


if __name__ == "__main__":
    main()
