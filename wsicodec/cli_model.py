"""`wsicodec model`: published checkpoints into bundles, and the bundles at hand."""

import argparse
from collections.abc import Callable
from typing import Any

from wsicodec import api

FOUND = 1  # exit status of `verify` and `parity`, as of `check`
Show = Callable[..., None]


def add_model_commands(model: argparse.ArgumentParser, show: Show) -> None:
    """Give the parser of `wsicodec model` its commands.

    Args:
        model: the parser.
        show: prints a record; takes `as_json`.
    """
    commands = model.add_subparsers(metavar="COMMAND", required=True)

    take = commands.add_parser("import", help="a published checkpoint into a bundle")
    take.set_defaults(command=_import, show=show)
    take.add_argument(
        "file", metavar="FILE", help="checkpoint, folder with just one, or hub:OWNER/NAME[:PATH]"
    )
    take.add_argument("--out", metavar="DIR", default=".", help="where to put the bundle's folder")
    take.add_argument("--name", help="of the bundle (default: the kind of checkpoint)")
    take.add_argument("--any-size", action="store_true", help="also take sizes not published")
    take.add_argument("--overwrite", action="store_true", help="replace what stands there")

    join, codec = _add_assembly(commands, show)

    listing = commands.add_parser("list", help="the bundles at hand")
    listing.set_defaults(command=_list, show=show)

    tell = commands.add_parser("show", help="what a bundle says of itself")
    tell.set_defaults(command=_show, show=show)

    verify = commands.add_parser("verify", help="check digests, tensors and shapes")
    verify.set_defaults(command=_verify, show=show)

    probe = commands.add_parser("probes", help="write inputs for a run of the published code")
    probe.set_defaults(command=_probes, show=show)

    parity = commands.add_parser("parity", help="compare with the published code's outputs")
    parity.set_defaults(command=_parity, show=show)

    for parser in (tell, verify, probe, parity):
        parser.add_argument("name", metavar="NAME", help="bundle, by name or folder")
    probe.add_argument("out", metavar="PROBES.safetensors", help="file to write")
    parity.add_argument("outputs", metavar="OUTPUTS.safetensors", help="what came out there")
    for parser in (take, join, codec, listing, tell, verify, probe, parity):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_assembly(commands: Any, show: Show) -> tuple[Any, Any]:
    """The commands that make bundles out of bundles."""
    join = commands.add_parser("join", help="networks of several bundles into one")
    join.set_defaults(command=_join, show=show)
    join.add_argument(
        "parts",
        metavar="PART=BUNDLE",
        nargs="+",
        type=_part,
        help="summarizer, unet, autoencoder and perhaps embedder, each with the bundle it is in",
    )
    join.add_argument("--name", required=True, help="of the new bundle")
    join.add_argument("--out", metavar="DIR", default=".", help="where to put its folder")
    join.add_argument("--overwrite", action="store_true", help="replace what stands there")

    codec = commands.add_parser("codec", help="fit the entropy coder of a bundle's embeddings")
    codec.set_defaults(command=_codec, show=show)
    codec.add_argument("name", metavar="NAME", help="bundle, by name or folder")
    codec.add_argument("sources", metavar="SOURCE", nargs="+", help="slides, or features as HDF5")
    codec.add_argument("--bytes", type=float, default=64.0, help="per embedding (default 64)")
    codec.add_argument("--mpp", type=float, help="micrometres per pixel of the slides")
    codec.add_argument("--backend", default="auto", help="onnx, torch, or auto (default)")
    codec.add_argument("--overwrite", action="store_true", help="replace a codec that is there")
    return join, codec


def _import(arguments: argparse.Namespace) -> int:
    record = api.import_model(
        arguments.file,
        arguments.out,
        name=arguments.name,
        any_size=arguments.any_size,
        overwrite=arguments.overwrite,
    )
    arguments.show(record, as_json=arguments.json)
    return 0


def _part(text: str) -> tuple[str, str]:
    part, equals, bundle = text.partition("=")
    if not equals or not bundle:
        raise argparse.ArgumentTypeError(f"expected PART=BUNDLE, got {text!r}")
    return part, bundle


def _join(arguments: argparse.Namespace) -> int:
    record = api.join_models(
        dict(arguments.parts), arguments.out, name=arguments.name, overwrite=arguments.overwrite
    )
    arguments.show(record, as_json=arguments.json)
    return 0


def _codec(arguments: argparse.Namespace) -> int:
    record = api.fit_codec(
        arguments.name,
        arguments.sources,
        bytes_per_vector=arguments.bytes,
        mpp=arguments.mpp,
        backend=arguments.backend,
        overwrite=arguments.overwrite,
    )
    arguments.show(record, as_json=arguments.json)
    return 0


def _list(arguments: argparse.Namespace) -> int:
    models: list[dict[str, Any]] = api.list_models()
    arguments.show({model.pop("name"): model for model in models}, as_json=arguments.json)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    arguments.show(api.show_model(arguments.name), as_json=arguments.json)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    found = api.verify_model(arguments.name)
    record: dict[str, Any] = {"ok": not found, "findings": found}
    arguments.show(record, as_json=arguments.json)
    return FOUND if found else 0


def _probes(arguments: argparse.Namespace) -> int:
    written = api.write_probes(arguments.name, arguments.out)
    arguments.show({"written": str(written)}, as_json=arguments.json)
    return 0


def _parity(arguments: argparse.Namespace) -> int:
    report = api.compare_model(arguments.name, arguments.outputs)
    arguments.show(report, as_json=arguments.json)
    return 0 if report["ok"] else FOUND
