"""Bundles that are at hand, and whether one is what it says."""

import os
from pathlib import Path
from typing import Any

from wsicodec.errors import BundleError, ConfigError
from wsicodec.models.bundle import EMBEDDED, PUBLISHED_FAMILIES, SEARCH_VARIABLE, Bundle


def bundle_folders() -> list[Path]:
    """The folders of all bundles: embedded ones, then those below WSICODEC_BUNDLES, by name."""
    roots = [EMBEDDED]
    roots += [Path(root) for root in os.environ.get(SEARCH_VARIABLE, "").split(os.pathsep) if root]
    return [path.parent for root in roots for path in sorted(root.glob("**/bundle.json"))]


def named_bundle(name: str | Path) -> Bundle:
    """A bundle by its folder, or by its own name among those at hand."""
    if (Path(name) / "bundle.json").is_file():
        return Bundle(Path(name).resolve())
    bundles = [Bundle(folder) for folder in bundle_folders()]
    for bundle in bundles:
        if bundle.name == str(name):
            return bundle
    raise BundleError(
        f"expected a bundle's folder or one of {', '.join(b.name for b in bundles)}, got "
        f"{str(name)!r}; {SEARCH_VARIABLE} names the folders that are searched"
    )


def summary(bundle: Bundle) -> dict[str, Any]:
    """What a bundle is, in a line's worth of entries."""
    return {
        "name": bundle.name,
        "family": bundle.family,
        "fingerprint": bundle.fingerprint,
        "encodes": bundle.lacks("encode") == "",
        "decodes": bundle.lacks("decode") == "",
        "folder": str(bundle.path),
    }


def description(bundle: Bundle) -> dict[str, Any]:
    """All that a bundle says of itself but how it was trained."""
    told = {k: v for k, v in bundle.config.items() if k not in ("record", "name", "family")}
    record = bundle.config.get("record", {}).get("imported")
    extra = {"imported": record} if record else {}
    tasks = {f"cannot_{t}": why for t in ("encode", "decode") if (why := bundle.lacks(t))}
    return {**summary(bundle), **tasks, **told, **extra}


def findings(bundle: Bundle) -> list[str]:
    """What is wrong with a bundle: parts damaged or missing, tensors that do not fit its sizes."""
    found = []
    for part in sorted(bundle.config["files"]):
        try:
            tensors = bundle.tensors(part) if part.endswith(".safetensors") else None
            if tensors is None:
                bundle.read(part)
            elif bundle.family in PUBLISHED_FAMILIES:
                shapes = {name: tuple(values.shape) for name, values in tensors.items()}
                found += _misfits(bundle, part.removesuffix(".safetensors"), shapes)
        except (BundleError, ConfigError) as error:
            found.append(str(error))
    return found


def _misfits(bundle: Bundle, part: str, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    from wsicodec.models.published.registry import expected_shapes, sizes_of

    if part in ("codec", "glass"):
        return []
    expected = expected_shapes(sizes_of(part, bundle.family, bundle.config[part]))
    unlike = sorted(k for k in expected.keys() | shapes.keys() if expected.get(k) != shapes.get(k))
    return [f"{part}: {len(unlike)} tensors do not fit, such as {unlike[0]}"] if unlike else []
