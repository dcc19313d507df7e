"""One checkpoint into one bundle folder."""

import json
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

from wsicodec import __version__
from wsicodec.diffusion import trained_steps
from wsicodec.errors import BundleError
from wsicodec.importing.kinds import Checkpoint, Part, recognise
from wsicodec.importing.licences import KNOWN, NOTES
from wsicodec.importing.sources import Source, digest, open_source
from wsicodec.importing.unpickler import write_safetensors
from wsicodec.models.bundle import BUNDLE_FORMAT, Bundle

FAMILIES = {
    "hipt-vit256": "hipt-cnn",
    "uni": "uni-vit",
    "zoomldm": "uni-vit",
    "large-image-diffusion": "hipt-patch",
    "cin256-v2": "latent-diffusion",
    "vq-f4": "latent-diffusion",
}
STEPS = 50  # of the published samplers
SCALE = 2.0  # of guidance, in eps_u + s (eps_c - eps_u)
START = 500  # trained step from which a child is drawn out of its parent
NORMALISATION = {"zoomldm": "standardise", "large-image-diffusion": "length"}


def import_checkpoint(
    path: str | Path,
    folder: str | Path | None = None,
    *,
    name: str | None = None,
    any_size: bool = False,
    overwrite: bool = False,
) -> Bundle:
    """Turn a published checkpoint into a bundle.

    Args:
        path: the file, or a folder with just one, such as a snapshot of a Hub repository, or
            hub:OWNER/NAME[@REVISION][:PATH], which huggingface_hub then fetches.
        folder: where the bundle's own folder is put; None for the working directory.
        name: of the bundle and its folder; None takes the kind of checkpoint.
        any_size: also take networks of the published design in other sizes. Heads are not stored
            in a checkpoint; they are then taken to be 64 channels wide, as the published ones are.
        overwrite: replace a bundle that stands there.

    Raises:
        BundleError: the file cannot be trusted, is damaged or unknown, or its noise schedule is
            not the published one; or a bundle of that name is there already.
    """
    place = Path(folder or ".").resolve()
    # A release takes gigabytes on the way, which the system's temporary folder may not have.
    scratch = next(parent for parent in (place, *place.parents) if parent.is_dir())
    with open_source(path, scratch) as source:
        found = recognise(source.shapes)
        if not (found.published_sizes or any_size):
            raise BundleError(
                f"{source.path.name} is a {found.kind} of other sizes than the published ones; "
                "allow any size if that is meant"
            )
        schedule = _schedule(source, found)
        target = place / (name or found.kind)
        if target.exists() and not overwrite:
            raise BundleError(f"{target} is there already; overwrite it or give another name")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".importing-", dir=target.parent) as making:
            built = Path(making) / target.name
            built.mkdir()
            files = {f"{p.name}.safetensors": _write(p, source, built) for p in found.parts}
            config = {
                **_settings(found, schedule),
                "name": target.name,
                "files": files,
                "record": {"imported": _provenance(source, found)},
            }
            text = json.dumps(config, indent=1, sort_keys=True) + "\n"
            (built / "bundle.json").write_text(text, "utf-8")
            if target.exists():
                shutil.rmtree(target)
            built.rename(target)
    return Bundle(target)


def _write(part: Part, source: Source, folder: Path) -> str:
    """Write a part tensor by tensor, in float32 and by name; gives the file's digest."""
    tensors = dict(sorted(part.tensors.items()))
    shapes = {ours: source.shapes[theirs] for ours, theirs in tensors.items()}
    entries = {ours: ("F32", shape, 4 * math.prod(shape)) for ours, shape in shapes.items()}
    values = (source.read(theirs).astype("<f4").tobytes() for theirs in tensors.values())
    path = folder / f"{part.name}.safetensors"
    with path.open("wb") as file:
        write_safetensors(file, entries, values, {"format": "pt"})
    return digest(path)


def _schedule(source: Source, found: Checkpoint) -> dict[str, Any] | None:
    """The noise schedule's settings once the file's own tables agree with it."""
    if "unet" not in {part.name for part in found.parts}:
        return None
    betas = trained_steps.square_root_linear()
    names = trained_steps.schedule_buffers(betas).keys() & source.shapes.keys()
    unlike = trained_steps.unlike_schedule({name: source.read(name) for name in names}, betas)
    if unlike:
        raise BundleError(
            f"the noise schedule of {source.path.name} is not the published one, linear in the "
            f"square root from {trained_steps.FIRST} to {trained_steps.LAST}: "
            f"{', '.join(unlike)} differ or are missing"
        )
    return {
        "kind": "square-root-linear",
        "length": trained_steps.LENGTH,
        "first": trained_steps.FIRST,
        "last": trained_steps.LAST,
        "predicts": "noise",
        "steps": STEPS,
        "guidance_scale": SCALE,
        "sampler": "ddim",
        "start": "parent",
        "start_step": START,
    }


def _settings(found: Checkpoint, schedule: dict[str, Any] | None) -> dict[str, Any]:
    """What the fingerprint covers besides the weights."""
    settings: dict[str, Any] = {
        "format": BUNDLE_FORMAT,
        "family": FAMILIES[found.kind],
        "kind": found.kind,
        "anchors": {},
        "embedding_scale": 1.0,
        "licence": NOTES[found.kind],
        **{part.name: part.config.to_json() for part in found.parts},
    }
    if schedule is not None:
        settings["schedule"] = schedule
    if found.kind in NORMALISATION:
        settings["embedder"] = {"width": settings["summarizer"]["embedding_width"]}
        settings["normalisation"] = NORMALISATION[found.kind]
    return settings


def _provenance(source: Source, found: Checkpoint) -> dict[str, Any]:
    """Where the weights came from; outside the fingerprint, as it is not what they are."""
    return {
        "file": source.path.name,
        **({"hub": source.origin} if source.origin else {}),
        "bytes": source.path.stat().st_size,
        "sha256": source.sha256,
        "published_as": KNOWN.get(source.sha256, ""),
        "wrapper": source.wrapper,
        "ignored_tensors": len(found.ignored),
        "wsicodec": __version__,
        **found.facts,
    }
