"""The few calls that most people need; each imports what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
) -> EncodeReport:
    """Store a slide as a zarr pyramid of embeddings.

    Args:
        src: a slide file, a flat image, an (h, w, 3) uint8 array, or a reader.
        dst: a directory, a name ending in .zip, a URL that fsspec knows, or a zarr store.
        preset: "semantic", "standard", "detail" or "measured"; see `wsicodec.presets`.
        roi: regions kept as they are, each (y0, x0, y1, x1) in level-0 pixels.
        mpp: micrometres per pixel of the source's finest level; overrides the file's own.
        bundle: name or folder of the model bundle; None is the embedded default.
        overwrite: replace what stands at `dst`, once the new store is whole.
        backend: runtime of the embedder: "auto", "onnx" or "torch".
        progress: called as patches are finished.

    Returns:
        Sizes, rates and times.

    Raises:
        SlideError: the source cannot be read; MppError if its resolution is not known.
        StoreExistsError: something stands at `dst` and `overwrite` is off.
        ConfigError: an unknown preset or a region outside the slide.
    """
    from wsicodec.models.bundle import load_bundle
    from wsicodec.models.networks import load_embedder
    from wsicodec.slide import open_slide
    from wsicodec.store.writer import encode_slide

    weights = load_bundle(bundle)
    with open_slide(src, mpp=mpp) as slide:
        return encode_slide(
            slide,
            dst,
            bundle=weights,
            embed=load_embedder(weights, backend),
            preset=preset,
            roi=tuple(roi or ()),
            overwrite=overwrite,
            progress=progress,
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


def info(store: str | Path | Store) -> dict[str, Any]:
    """What a slide says of itself: format, sizes, resolution, preset, bundle, rates."""
    from wsicodec.store.describe import describe

    return describe(store)


def check(store: str | Path | Store) -> CheckReport:
    """Verify a slide object by object: digests, payloads, metadata, and that pixels decode."""
    from wsicodec.store.check import check_store

    return check_store(store)
