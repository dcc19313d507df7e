"""`wsicodec sample`: a slide that never was."""

import argparse
import dataclasses
from collections.abc import Callable

from wsicodec import api

Show = Callable[..., None]
SIDE = 8192  # pixels


def add_sample_arguments(sample: argparse.ArgumentParser, show: Show) -> None:
    """Give the parser of `wsicodec sample` its arguments.

    Args:
        sample: the parser.
        show: prints a record; takes `as_json`.
    """
    sample.set_defaults(command=_sample, show=show)
    sample.add_argument("store", metavar="STORE", help="folder, .zip or URL to write")
    sample.add_argument(
        "--size",
        type=size_of,
        default=(SIDE, SIDE),
        metavar="HEIGHTxWIDTH",
        help=f"pixels at 0.5 µm (default {SIDE}x{SIDE})",
    )
    sample.add_argument("--seed", type=int, default=0, help="another one, another slide")
    sample.add_argument("--bundle", metavar="NAME", help="model bundle, by name or folder")
    sample.add_argument("--overwrite", action="store_true", help="replace what stands there")
    sample.add_argument("--json", action="store_true", help="print JSON")
    sample.add_argument("--quiet", action="store_true", help="no progress bars")


def size_of(text: str) -> tuple[int, int]:
    """Height and width out of HEIGHTxWIDTH; raises ArgumentTypeError on anything else."""
    try:
        height, width = (int(number) for number in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, got {text!r}") from None
    return height, width


def _sample(arguments: argparse.Namespace) -> int:
    from wsicodec.progress import bars

    with bars(quiet=arguments.quiet) as progress:
        report = api.sample(
            arguments.store,
            size=arguments.size,
            seed=arguments.seed,
            bundle=arguments.bundle,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    arguments.show(dataclasses.asdict(report), as_json=arguments.json)
    return 0
