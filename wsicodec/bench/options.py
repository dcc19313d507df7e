"""What a run of the benchmark can be asked for; light, so that the command line can show it."""

import argparse
from dataclasses import dataclass
from pathlib import Path

RIVALS = ("avif", "jpegxl", "jpeg2000", "webp", "jpeg", "heif")
OURS = ("wsicodec", "anchor", "autoencoder", "memory")
CODECS = (*OURS, *RIVALS)


@dataclass(frozen=True)
class Options:
    """A run: what goes in, which codecs, at how many settings, and who judges."""

    inputs: tuple[Path, ...]
    out: Path  # the CSV; figures, tiles and report lie beside it
    split: str = "val"  # of an index
    mpp: float | None = None  # of pictures that do not say it
    quick: bool = False
    fresh: bool = False
    codecs: tuple[str, ...] = ()  # none: all that can run
    without: tuple[str, ...] = ()
    bundle: str | None = None
    presets: tuple[str, ...] = ("standard", "semantic", "detail", "measured")
    steps: tuple[int, ...] = (1, 2, 4)  # besides the store's own
    quantizers: tuple[float, ...] = (0.5, 2, 4, 8)  # embedding steps over the bundle's
    sweep: tuple[str, ...] = ("standard",)  # presets at which steps and quantisers are varied
    seeds: int = 3  # of the noise, at every preset
    fields: int = 4  # of a file, at most
    train: Path | None = None  # index whose training tiles the memorising decoder has
    compressai: tuple[str, ...] = ()  # MODEL:QUALITY:FILE
    inception: Path | None = None
    onnx: tuple[Path, ...] = ()
    held_out: bool = True
    conditioning: bool = False  # whether the embedder that conditioned the decoder judges, marked
    draws: int = 60  # of the bootstrap
    workers: int = 0  # processes; 0: one per core


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options that every entry point has."""
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="SLIDE", help="slide, picture, folder or index.csv")
    add("--quick", action="store_true", help="few files and settings, a few minutes")
    add("--fresh", action="store_true", help="forget the rows made before")
    add("--mpp", type=float, help="micrometres per pixel of pictures that do not say it")
    add("--split", default="val", help="rows of an index (default val)")
    add("--bundle", help="model bundle, by name or folder")
    add("--only", nargs="+", default=[], choices=CODECS, metavar="CODEC", help=", ".join(CODECS))
    add("--without", nargs="+", default=[], choices=CODECS, metavar="CODEC")
    add("--presets", nargs="+", metavar="PRESET", default=list(Options.presets))
    add("--steps", nargs="*", type=int, default=list(Options.steps), help="besides the store's own")
    add("--quantizers", nargs="*", type=float, default=list(Options.quantizers))
    add("--sweep", nargs="*", metavar="PRESET", default=list(Options.sweep), help="steps and such")
    add("--seeds", type=int, default=Options.seeds, help="of the noise (default 3)")
    add("--fields", type=int, default=Options.fields, help="megapixels of a file, at most")
    add("--train", type=Path, metavar="INDEX", help="training tiles of the memorising decoder")
    add("--compressai", nargs="+", default=[], metavar="MODEL:QUALITY:FILE")
    add("--inception", type=Path, metavar="FILE", help="weights of Inception-v3, FID layout")
    add("--onnx", type=Path, nargs="+", default=[], metavar="FILE", help="further judges")
    add("--no-held-out", action="store_true", help="do without the shipped judge")
    add("--conditioning", action="store_true", help="the embedder judges too, and is marked so")
    add("--draws", type=int, default=Options.draws, help="of the bootstrap")
    add("--workers", type=int, default=0, help="processes (default: one per core)")


def to_options(given: argparse.Namespace, out: Path) -> Options:
    """What a parser with `add_arguments` has read; `out` is the CSV."""
    return Options(
        inputs=tuple(given.inputs),
        out=out,
        split=given.split,
        mpp=given.mpp,
        quick=given.quick,
        fresh=given.fresh,
        codecs=tuple(given.only),
        without=tuple(given.without),
        bundle=given.bundle,
        presets=tuple(given.presets),
        steps=tuple(given.steps),
        quantizers=tuple(given.quantizers),
        sweep=tuple(given.sweep),
        seeds=given.seeds,
        fields=given.fields,
        train=given.train,
        compressai=tuple(given.compressai),
        inception=given.inception,
        onnx=tuple(given.onnx),
        held_out=not given.no_held_out,
        conditioning=given.conditioning,
        draws=given.draws,
        workers=given.workers,
    )
