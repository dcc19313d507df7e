"""`wsicodec bench`: rate against Fréchet distance on a user's own slides, in one command."""

import argparse
from pathlib import Path

from wsicodec.bench.options import add_arguments, to_options


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser of `wsicodec bench` its options and what it runs."""
    parser.set_defaults(command=_bench)
    add_arguments(parser)
    parser.add_argument("--out", metavar="DIR", default="bench", help="folder (default bench)")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _bench(arguments: argparse.Namespace) -> int:
    from wsicodec.bench.command import bench
    from wsicodec.bench.report import standing
    from wsicodec.progress import bars

    options = to_options(arguments, Path(arguments.out) / "rate_fid.csv")
    with bars(quiet=arguments.quiet) as progress:
        report = bench(options, progress)
    if told := standing(options.out):
        print(told)
    print(report)
    return 0
