"""Bundles out of bundles: parts put together, and a codec fitted for their embeddings.

No published checkpoint can encode and draw a slide by itself: HIPT and UNI embed, ZoomLDM and
Large-Image-Diffusion draw, CompVis' networks start a training, and none brings an entropy coder.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from wsicodec.coding.fit import fit_tables
from wsicodec.errors import BundleError
from wsicodec.models.bundle import BUNDLE_FORMAT, Bundle, forget_bundles, load_bundle

PARTS = ("embedder", "summarizer", "unet", "autoencoder")
CODEC = ("codec.safetensors", "glass.safetensors")  # made for one embedder
ANCHOR_LEVEL = 2  # of the presets' real picture, where the networks draw two levels or more


def join_bundles(
    parts: Mapping[str, Bundle],
    folder: str | Path | None = None,
    *,
    name: str,
    overwrite: bool = False,
) -> Bundle:
    """Put the networks of several bundles into one.

    Args:
        parts: the bundle to take "embedder", "summarizer", "unet" or "autoencoder" from. Without
            an embedder the result takes ready features only.
        folder: where the new bundle's own folder is put; None for the working directory.
        name: of the new bundle and its folder.
        overwrite: replace a bundle that stands there.

    Raises:
        BundleError: parts that are not there, are missing, or do not fit each other.
    """
    for part, bundle in parts.items():
        if part not in PARTS or f"{part}.safetensors" not in bundle.config["files"]:
            raise BundleError(
                f"expected one of {', '.join(PARTS)}, in a bundle that has it; "
                f"got {part!r} of {bundle.name}"
            )
    if lost := [part for part in PARTS[1:] if part not in parts]:
        raise BundleError(f"expected also a bundle for {', '.join(lost)}; embedder is optional")
    config = _joined(parts)
    _check_fit(config)
    with _new_folder(folder, name, overwrite) as built:
        files = _copied(parts, built)
        _write_settings(built, {**config, "name": name, "files": files})
    return Bundle(Path(folder or ".").resolve() / name)


def add_codec(
    bundle: Bundle,
    grids: Sequence[NDArray[np.float32]],
    glass: NDArray[np.float32] | None,
    *,
    bytes_per_vector: float,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fit the coder of a bundle's embeddings into the bundle, whose fingerprint changes.

    Args:
        bundle: of a published family.
        grids: embeddings (gh, gw, d), blank cells zero, of tissue such as will be encoded.
        glass: the embedding (d,) of an empty patch, or None where no embedder is at hand.
        bytes_per_vector: estimated rate not to be passed.
        overwrite: replace the codec that is there; stores written with it are then lost.

    Returns:
        What was fitted: vectors, components, step.
    """
    if CODEC[0] in bundle.config["files"] and not overwrite:
        raise BundleError(
            f"{bundle.name} has a codec, and the stores written with it need it; "
            "overwrite it, or fit one for a copy of the bundle"
        )
    tables = fit_tables(list(grids), target_bytes=bytes_per_vector)
    written = {CODEC[0]: save(dict(tables.to_tensors()))}
    if glass is not None:
        written[CODEC[1]] = save({"glass": np.asarray(glass, np.float32)})
    files = {k: v for k, v in bundle.config["files"].items() if k not in CODEC}
    for part, data in written.items():
        (bundle.path / part).write_bytes(data)
        files[part] = hashlib.sha256(data).hexdigest()
    facts = {
        "vectors": sum(int(grid.any(axis=-1).sum()) for grid in grids),
        "components": tables.components,
        "step": tables.step,
        "bytes_per_vector": bytes_per_vector,
        "glass": glass is not None,
    }
    record = {**bundle.config.get("record", {}), "codec": facts}
    changed = {"files": files, "anchors": _anchors(bundle), "record": record}
    _write_settings(bundle.path, {**bundle.config, **changed})
    forget_bundles()
    return facts


def _anchors(bundle: Bundle) -> dict[str, Any]:
    """The embedded bundle's real pictures, at a level from which these networks can draw."""
    trained = bundle.config.get("summarizer", {}).get("magnifications", ANCHOR_LEVEL)
    level = min(ANCHOR_LEVEL, int(trained))
    plans = load_bundle().config["anchors"]
    return {preset: {**plan, "level": level} for preset, plan in plans.items()}


def _joined(parts: Mapping[str, Bundle]) -> dict[str, Any]:
    """Settings of the whole from those of the parts."""
    summarizer, unet = parts["summarizer"], parts["unet"]
    embedder = {"width": summarizer.config["summarizer"]["embedding_width"]}
    licences = {bundle.config.get("licence", ""): None for bundle in parts.values()}
    return {
        "format": BUNDLE_FORMAT,
        "family": summarizer.family,
        "kind": "joined",
        "anchors": {},
        "embedding_scale": 1.0,
        "licence": " ".join(licence for licence in licences if licence),
        "schedule": unet.config["schedule"],
        "normalisation": summarizer.config.get("normalisation"),
        "embedder": embedder,
        **{part: bundle.config[part] for part, bundle in parts.items()},
        "record": {
            "joined": {
                part: {
                    "bundle": bundle.name,
                    "fingerprint": bundle.fingerprint,
                    **bundle.config.get("record", {}).get("imported", {}),
                }
                for part, bundle in parts.items()
            }
        },
    }


def _check_fit(config: Mapping[str, Any]) -> None:
    summarizer, unet = config["summarizer"], config["unet"]
    width = summarizer.get("width") or summarizer["widths"][-1]
    pairs = {
        "embeddings": (config["embedder"]["width"], summarizer["embedding_width"]),
        "context tokens": (width, unet["context_width"]),
        "latents": (config["autoencoder"]["latent_channels"], unet["latent_channels"]),
    }
    for what, (made, taken) in pairs.items():
        if made != taken:
            raise BundleError(f"expected {what} of {taken} channels, but the parts make {made}")


def _copied(parts: Mapping[str, Bundle], folder: Path) -> dict[str, str]:
    """Copy every part, and the codec of the embedder's bundle if it has one; gives digests."""
    sources = {f"{part}.safetensors": bundle for part, bundle in parts.items()}
    if "embedder" in parts:
        had = parts["embedder"].config["files"]
        sources |= {name: parts["embedder"] for name in CODEC if name in had}
    for name, bundle in sources.items():
        shutil.copyfile(bundle.check(name), folder / name)
    return {name: str(bundle.config["files"][name]) for name, bundle in sources.items()}


def _write_settings(folder: Path, config: Mapping[str, Any]) -> None:
    text = json.dumps(config, indent=1, sort_keys=True) + "\n"
    partial = folder / ".bundle.json.partial"
    partial.write_text(text, "utf-8")
    partial.replace(folder / "bundle.json")


@contextmanager
def _new_folder(folder: str | Path | None, name: str, overwrite: bool) -> Iterator[Path]:
    """A folder to fill, which gets its name when it is whole."""
    target = Path(folder or ".").resolve() / name
    if target.exists() and not overwrite:
        raise BundleError(f"{target} is there already; overwrite it or give another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".joining-", dir=target.parent) as making:
        built = Path(making) / name
        built.mkdir()
        yield built
        if target.exists():
            shutil.rmtree(target)
        built.rename(target)
    forget_bundles()
