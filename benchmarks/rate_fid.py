"""Rate against Fréchet distance: wsicodec and its rivals on the same fields.

    python -m benchmarks.rate_fid SLIDE... [--quick] [--out FILE.csv] [--only CODEC...]

A SLIDE is a slide, a picture, a folder of them, or an index such as MANIFEST.csv (its rows of
`--split`). All are judged together; a row is a codec, a setting, a seed and a level. Rows that the
file has already are not made again, so rivals may run today and ours tomorrow, and a run that was
stopped goes on where it stood. `wsicodec bench` does the same for your own slides.

    bytes         everything: a store's files of every kind, a rival's one file of all fields
    bpp_tissue    over level-0 pixels of patches with tissue; bpp_fields: over those of the fields
    fd_NAME...    squared Fréchet distance of judge NAME, its 95 % interval over files, its draws
    kd_, cmmd_    kernel distance, CMMD; precision_, recall_
    fd_NAME_shifted_over_aligned   of squares around window corners over that inside windows
    cosine, retrieval   of tiles embedded again by `embedder`, the latter among 32
    energy_0...   octave energies over the truth's, finest first; kurtosis_ likewise
    seam          step over window borders over that inside; seam_true is the original's
    weights       the bundle that drew; empty for rivals
    judges        of the judges' weights, the bootstrap's draws and the protocol

The run ends with the rungs (`wsicodec.bench.rungs`): what our `standard` is below, and what not.
Beside it lie `_files.csv` (a row per file), `_outside.csv` (rivals whose rate lay outside what is
judged), the figures, and the report.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.record import RESULTS
from wsicodec.bench.options import add_arguments, to_options


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("benchmarks.rate_fid", description=__doc__.split("\n")[0])
    add_arguments(parser)
    parser.add_argument("--out", type=Path, default=RESULTS / "rate_fid.csv")
    given = parser.parse_args(arguments)
    options = to_options(given, given.out)
    from wsicodec.bench.command import bench
    from wsicodec.bench.report import standing

    page = bench(options, lambda done, total, unit: print(f"{done}/{total} {unit}", flush=True))
    print(standing(options.out))
    print(page)


if __name__ == "__main__":
    main()
