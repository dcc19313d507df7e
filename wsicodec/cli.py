"""The command line: parses arguments, calls `wsicodec.api`, prints what came back.

Exit status: 0 done, 1 `check` found something, 2 bad option or input, 130 interrupted.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from wsicodec import __version__, api
from wsicodec.cli_bench import add_bench_arguments
from wsicodec.cli_model import add_model_commands
from wsicodec.cli_sample import add_sample_arguments
from wsicodec.errors import WsiCodecError

FOUND, BAD, INTERRUPTED = 1, 2, 130  # exit status


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; those of the process if None.

    Returns:
        The exit status. Bad options leave through SystemExit with status 2, as argparse has it.
    """
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except (WsiCodecError, OSError, MemoryError) as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"wsicodec: error: {text}", file=sys.stderr)
        return BAD
    except KeyboardInterrupt:
        print("wsicodec: interrupted", file=sys.stderr)
        return INTERRUPTED


def _encode(arguments: argparse.Namespace) -> int:
    from wsicodec.progress import bars

    with bars(quiet=arguments.quiet) as progress:
        report = api.encode(
            arguments.slide,
            arguments.store,
            preset=arguments.preset,
            roi=arguments.roi,
            mpp=arguments.mpp,
            bundle=arguments.bundle,
            overwrite=arguments.overwrite,
            backend=arguments.backend,
            progress=progress,
            features=arguments.features,
        )
    _show(dataclasses.asdict(report), as_json=arguments.json)
    return 0


def _decode(arguments: argparse.Namespace) -> int:
    from wsicodec.progress import bars

    with bars(quiet=arguments.quiet) as progress:
        written = api.decode(
            arguments.store,
            arguments.out,
            level=arguments.level,
            steps=arguments.steps,
            backend=arguments.backend,
            overwrite=arguments.overwrite,
            progress=progress,
        )
    _show({"written": str(written), "bytes": written.stat().st_size}, as_json=arguments.json)
    return 0


def _export_features(arguments: argparse.Namespace) -> int:
    written = api.export_features(arguments.store, arguments.out, overwrite=arguments.overwrite)
    _show({"written": str(written), "bytes": written.stat().st_size}, as_json=arguments.json)
    return 0


def _info(arguments: argparse.Namespace) -> int:
    _show(api.info(arguments.store), as_json=arguments.json)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    report = api.check(arguments.store)
    if arguments.json:
        _show({"ok": report.ok, "findings": list(report.findings)}, as_json=True)
    else:
        print(*(report.findings or ["no damage found"]), sep="\n")
    return 0 if report.ok else FOUND


def _demo(arguments: argparse.Namespace) -> int:
    from wsicodec import demo
    from wsicodec.progress import bars

    with bars(quiet=arguments.quiet) as progress:
        demo.run(
            arguments.slide,
            arguments.out,
            preset=arguments.preset,
            mpp=arguments.mpp,
            progress=progress,
        )
    return 0


def _show(record: dict[str, Any], *, as_json: bool) -> None:
    """Print a record as JSON, or as a line per entry with the names of what holds it in front."""
    if as_json:
        print(json.dumps(_finite(record), indent=2, default=str))
        return
    lines = list(_flat(record))
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")


def _finite(value: Any) -> Any:
    """The same with null for what JSON has no number for, such as a rate over no tissue."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _flat(record: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in record.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((f"{prefix}{name}", f"{value:.5g}" if isinstance(value, float) else value))
    return lines


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(BAD, f"wsicodec: error: {message}; see '{self.prog} --help'\n")


def _roi(text: str) -> tuple[int, int, int, int]:
    try:
        y0, x0, y1, x1 = (int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected Y0,X0,Y1,X1 in pixels, got {text!r}") from None
    return y0, x0, y1, x1


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wsicodec",
        description="Whole-slide images as embeddings in zarr, drawn back by a diffusion model.",
        epilog="Generated pixels are synthesised and are not for diagnosis.",
    )
    parser.add_argument("--version", action="version", version=f"wsicodec {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = commands.add_parser

    encode = command("encode", help="a slide into a store")
    encode.set_defaults(command=_encode)
    encode.add_argument("slide", metavar="SLIDE", help="whole-slide file, TIFF or flat image")
    encode.add_argument("store", metavar="STORE", help="folder, .zip or URL to write")
    _add_coding(encode)
    _add(encode, "--roi", type=_roi, action="append", metavar="Y0,X0,Y1,X1")
    _add(encode, "--bundle", metavar="NAME")
    _add(encode, "--features", metavar="FILE.h5")
    _add(encode, "--backend", default="auto")
    _add(encode, "--overwrite", "--json", "--quiet", action="store_true")

    decode = command("decode", help="a store into a pyramidal TIFF")
    decode.set_defaults(command=_decode)
    decode.add_argument("store", metavar="STORE")
    decode.add_argument("out", metavar="OUT.tif")
    _add(decode, "--level", "--steps", type=int, default=0)
    _add(decode, "--backend", default="auto")
    _add(decode, "--overwrite", "--json", "--quiet", action="store_true")

    features = command("export-features", help="a store's embeddings into an HDF5 file")
    features.set_defaults(command=_export_features)
    features.add_argument("store", metavar="STORE")
    features.add_argument("out", metavar="OUT.h5")
    _add(features, "--overwrite", "--json", action="store_true")

    for name, run in (("info", _info), ("check", _check)):
        reader = command(name, help=_HELP[name])
        reader.set_defaults(command=run)
        reader.add_argument("store", metavar="STORE")
        _add(reader, "--json", action="store_true")

    model = command("model", help="import, list, show and verify model bundles")
    add_model_commands(model, _show)

    sample = command("sample", help="a slide that never existed, into a store")
    add_sample_arguments(sample, _show)

    bench = command("bench", help="rate against Fréchet distance on slides, with an HTML report")
    add_bench_arguments(bench)

    demo = command("demo", help="encode a slide, reopen it, draw both side by side")
    demo.set_defaults(command=_demo)
    demo.add_argument("slide", metavar="SLIDE", nargs="?", help="default: one is drawn")
    _add_coding(demo)
    _add(demo, "--out", metavar="DIR", default="demo")
    _add(demo, "--quiet", action="store_true")
    return parser


_HELP = {
    "--backend": "onnx, torch, or auto (default)",
    "--bundle": "model bundle, by name or folder",
    "--features": "ready embeddings, HDF5 with features and coords",
    "--json": "print JSON",
    "--level": "finest level to write (default 0)",
    "--mpp": "micrometres per pixel of the slide's finest level",
    "--out": "folder to write into (default demo)",
    "--overwrite": "replace what stands there",
    "--preset": "how much is stored: semantic, standard (default), detail or measured",
    "--quiet": "no progress bars",
    "--roi": "level-0 pixels to keep as they are; repeatable",
    "--steps": "denoising steps (default: what the store asks for)",
    "check": "look for damage; exit status 1 if there is any",
    "info": "what a store holds and what it costs",
}


def _add(parser: argparse.ArgumentParser, *names: str, **options: Any) -> None:
    for name in names:
        parser.add_argument(name, help=_HELP[name], **options)


def _add_coding(parser: argparse.ArgumentParser) -> None:
    _add(parser, "--preset", default="standard")
    _add(parser, "--mpp", type=float)
