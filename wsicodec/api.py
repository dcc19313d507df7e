"""The few calls that most people need; each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import zarr
    from zarr.abc.store import Store

    from wsicodec.slide.base import SlideReader
    from wsicodec.store.check import CheckReport
    from wsicodec.store.writer import EncodeReport

Progress = Callable[[int, int, str], None]
"""Called with (done, total, unit) whenever some work is finished."""


def encode(  # noqa: PLR0913, all but two by keyword
    src: str | Path | SlideReader | Any,
    dst: str | Path | Store,
    *,
    preset: str = "standard",
    roi: Sequence[tuple[int, int, int, int]] | None = None,
    mpp: float | None = None,
    bundle: str | Path | None = None,
    overwrite: bool = False,
    backend: str = "auto",
    progress: Progress | None = None,
    features: str | Path | None = None,
) -> EncodeReport:
    """Store a slide as a zarr pyramid of embeddings.

    Args:
        src: a slide file, a flat image, an (h, w, 3) uint8 array, or a reader.
        dst: a directory, a name ending in .zip, a URL that fsspec knows, or a zarr store.
        preset: "semantic", "standard", "detail" or "measured"; see `wsicodec.presets`. Of
            "semantic", all levels are generated: the coarse ones a sketch of the embeddings, the
            finer ones drawn from it.
        roi: regions kept as they are, each (y0, x0, y1, x1) in level-0 pixels.
        mpp: micrometres per pixel of the source's finest level; overrides the file's own.
        bundle: name or folder of the model bundle; None is the embedded default.
        overwrite: replace what stands at `dst`, once the new store is whole.
        backend: runtime of the embedder: "auto", "onnx" or "torch".
        progress: called as patches are finished.
        features: HDF5 file with `features` and `coords` of this slide, as CLAM and TRIDENT write
            them and `export_features` does, made by the bundle's own embedder on patches side by
            side from the slide's corner; only patches that it lacks are embedded.

    Returns:
        Sizes, rates and times.

    Raises:
        SlideError: the source cannot be read; MppError if its resolution is not known.
        StoreExistsError: something stands at `dst` and `overwrite` is off.
        ConfigError: an unknown preset or a region outside the slide.
    """
    from wsicodec.models.bundle import load_bundle
    from wsicodec.slide import open_slide
    from wsicodec.store.features import embedder_for
    from wsicodec.store.writer import encode_slide

    weights = load_bundle(bundle)
    embed = embedder_for(weights, backend, ready=features is not None)
    with open_slide(src, mpp=mpp) as slide:
        return encode_slide(
            slide,
            dst,
            bundle=weights,
            embed=embed,
            preset=preset,
            roi=tuple(roi or ()),
            overwrite=overwrite,
            progress=progress,
            features=features,
        )


def decode(
    store: str | Path | Store,
    dst: str | Path,
    *,
    level: int = 0,
    steps: int = 0,
    backend: str = "auto",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Draw a slide into a pyramidal tiled TIFF that OpenSlide opens.

    Args:
        store: anything that `open` takes.
        dst: the file to write, ending in .tif or .tiff.
        level: the finest level to draw.
        steps: denoising steps; 0 takes what the store asks for.
        backend: "auto", "onnx" or "torch".
        overwrite: replace an existing file, once the new one is whole.
        progress: called as tiles are finished.
    """
    from wsicodec.store.export import export_tiff

    group = open(store, steps=steps, backend=backend)
    return export_tiff(group, Path(dst), level=level, overwrite=overwrite, progress=progress)


def open(  # noqa: A001, the name that users expect
    store: str | Path | Store,
    *,
    steps: int = 0,
    backend: str = "auto",
    allow_generated: bool = True,
) -> zarr.Group:
    """Open a slide for reading, as `zarr.open` does, with a say in how pixels are drawn.

    Args:
        store: a directory, a .zip file, a URL, or a zarr store.
        steps: denoising steps; 0 takes what the store asks for.
        backend: "auto", "onnx" or "torch".
        allow_generated: False raises GeneratedPixelsError where pixels were not measured.
    """
    from wsicodec.config import DrawOptions
    from wsicodec.store.publish import open_store

    return open_store(store, DrawOptions(steps, backend, allow_generated))


def sample(
    dst: str | Path | Store,
    *,
    size: tuple[int, int] = (8192, 8192),
    seed: int = 0,
    bundle: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> EncodeReport:
    """Draw a whole slide that never existed, outline and all, into a store.

    It opens like any other of preset semantic. All of it is flagged as synthetic, and a reader
    that refuses generated pixels is given none of them, not even its glass.

    Args:
        dst: a directory, a name ending in .zip, a URL that fsspec knows, or a zarr store.
        size: height and width in pixels of 0.5 µm.
        seed: another one gives another slide; the same one gives the same bytes.
        bundle: name or folder of a model bundle with an embedding diffusion model; None is the
            embedded default.
        overwrite: replace what stands at `dst`, once the new store is whole.
        progress: called as octaves of the grid are finished.

    Returns:
        Sizes, rates and times.

    Raises:
        BundleError: the bundle has no embedding diffusion model, or measures no stains.
        StoreExistsError: something stands at `dst` and `overwrite` is off.
        ConfigError: a size without pixels, or too large for one grid.
    """
    from wsicodec.codec.tables import embedding_tables
    from wsicodec.errors import ConfigError
    from wsicodec.geometry import grid_shape
    from wsicodec.models.bundle import load_bundle
    from wsicodec.models.edm import load_edm
    from wsicodec.models.sketch import need_sketch
    from wsicodec.store.synthetic import GLASS, Novelty, check_destination, write_synthetic
    from wsicodec.synthesis.grid import draw_grid, sketch_of

    height, width = size
    if min(height, width) < 1:
        raise ConfigError(f"expected a height and width of at least one pixel, got {size}")
    weights = load_bundle(bundle)
    network, sketch = load_edm(weights), need_sketch(weights)
    check_destination(dst, overwrite=overwrite)
    grid = draw_grid(network, grid_shape((height, width)), seed, progress=progress)
    origin = {"seed": seed, "model": network.digest}
    pixels = sketch_of(grid, sketch, embedding_tables(weights.fingerprint), GLASS)
    novelty = Novelty((height, width), grid.tissue, grid.symbols, pixels, origin)
    return write_synthetic(novelty, dst, weights, overwrite)


def export_features(store: str | Path | Store, dst: str | Path, *, overwrite: bool = False) -> Path:
    """Write a store's embeddings as a file that others read.

    Args:
        store: anything that `open` takes.
        dst: the file to write: .h5 or .hdf5 for CLAM, TRIDENT and their readers, .h5ad for
            AnnData, .pt for Slideflow, whose index is written beside it.
        overwrite: replace an existing file, once the new one is whole.
    """
    from wsicodec.store.features import export_features as export

    return export(open(store), Path(dst), overwrite=overwrite)


def info(store: str | Path | Store) -> dict[str, Any]:
    """What a slide says of itself: format, sizes, resolution, preset, bundle, rates."""
    from wsicodec.store.describe import describe

    return describe(store)


def check(store: str | Path | Store) -> CheckReport:
    """Verify a slide object by object: digests, payloads, metadata, and that pixels decode."""
    from wsicodec.store.check import check_store

    return check_store(store)


def import_model(
    source: str | Path,
    folder: str | Path | None = None,
    *,
    name: str | None = None,
    any_size: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Turn a published checkpoint into a bundle; nothing in a pickled file is ever run.

    Args:
        source: a .safetensors, .pth, .pt, .ckpt or .bin file, a folder with just one of them, or
            hub:OWNER/NAME[@REVISION][:PATH], which huggingface_hub then fetches.
        folder: where the bundle's own folder is put; None for the working directory.
        name: of the bundle; None takes the kind of checkpoint, such as "hipt-vit256".
        any_size: also take the published designs in other sizes.
        overwrite: replace a bundle that stands there.

    Returns:
        What the bundle is.

    Raises:
        BundleError: the file is unknown, damaged or not to be trusted; or PyTorch is missing.
    """
    from importlib.util import find_spec

    from wsicodec.errors import BundleError

    if not find_spec("torch"):
        raise BundleError("importing a model needs PyTorch; install wsicodec[torch]")
    from wsicodec.importing.checkpoint import import_checkpoint
    from wsicodec.importing.inventory import description

    return description(
        import_checkpoint(source, folder, name=name, any_size=any_size, overwrite=overwrite)
    )


def join_models(
    parts: Mapping[str, str | Path],
    folder: str | Path | None = None,
    *,
    name: str,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Put networks of several bundles into one that can do more.

    Args:
        parts: for "summarizer", "unet", "autoencoder" and perhaps "embedder", the bundle, by name
            or folder, to take it from.
        folder: where the new bundle's own folder is put; None for the working directory.
        name: of the new bundle.
        overwrite: replace a bundle that stands there.

    Returns:
        What the bundle is.
    """
    from wsicodec.importing.assembly import join_bundles
    from wsicodec.importing.inventory import description, named_bundle

    bundles = {part: named_bundle(given) for part, given in parts.items()}
    return description(join_bundles(bundles, folder, name=name, overwrite=overwrite))


def fit_codec(
    name: str | Path,
    sources: Sequence[str | Path],
    *,
    bytes_per_vector: float = 64.0,
    mpp: float | None = None,
    backend: str = "auto",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fit the entropy coder of an imported bundle's embeddings, so that it can encode slides.

    Args:
        name: the bundle, by name or folder; its codec is written into it.
        sources: slides, which its embedder embeds, or HDF5 files of ready features.
        bytes_per_vector: what an embedding may cost, as estimated on the sources.
        mpp: micrometres per pixel of the slides' finest level; overrides their own.
        backend: runtime of the embedder.
        overwrite: replace a codec that is there.

    Returns:
        What was fitted.
    """
    from wsicodec.importing.assembly import add_codec
    from wsicodec.importing.inventory import named_bundle
    from wsicodec.store.grids import grids_of

    bundle = named_bundle(name)
    grids, glass = grids_of(bundle, sources, mpp, backend)
    return add_codec(bundle, grids, glass, bytes_per_vector=bytes_per_vector, overwrite=overwrite)


def list_models() -> list[dict[str, Any]]:
    """The bundles at hand: the embedded ones, and those below WSICODEC_BUNDLES."""
    from wsicodec.importing.inventory import bundle_folders, summary
    from wsicodec.models.bundle import Bundle

    return [summary(Bundle(folder)) for folder in bundle_folders()]


def show_model(name: str | Path) -> dict[str, Any]:
    """What a bundle, by name or folder, says of itself."""
    from wsicodec.importing.inventory import description, named_bundle

    return description(named_bundle(name))


def verify_model(name: str | Path) -> list[str]:
    """What is wrong with a bundle's parts: digests, tensors and their shapes; empty if nothing."""
    from wsicodec.importing.inventory import findings, named_bundle

    return findings(named_bundle(name))


def write_probes(name: str | Path, dst: str | Path) -> Path:
    """Write the inputs on which a bundle's networks are compared with a reference run's.

    See `wsicodec.zoomldm.parity` for what to do with them.
    """
    from wsicodec.importing.inventory import named_bundle
    from wsicodec.zoomldm import parity

    return parity.write_probes(named_bundle(name), dst)


def compare_model(name: str | Path, outputs: str | Path) -> dict[str, Any]:
    """Compare a bundle's networks with a reference run's outputs on the probes.

    Returns:
        "ok", and under "errors" the relative root mean square error of every output.
    """
    from wsicodec.importing.inventory import named_bundle
    from wsicodec.zoomldm import parity

    errors = parity.compare(named_bundle(name), outputs)
    return {"ok": all(e <= parity.TOLERANCE for e in errors.values()), "errors": errors}
