"""Embeddings as the field keeps them: HDF5 files with `features` and `coords`, in and out.

    features   (n, d) floats, one row per patch; TRIDENT also writes (1, n, d)
    coords     (n, 2) x, y of the patch's upper left corner, in pixels of the source's finest level
    attributes of coords, where TRIDENT wrote them: patch_size, patch_size_level0,
               level0_magnification, target_magnification, overlap, level0_width, level0_height

CLAM's feature files have the two arrays alone. What comes in must lie on the store's own lattice:
patches of 256 px at level 0, side by side from the slide's corner.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsicodec.config import StoreInfo
from wsicodec.errors import BundleError, ConfigError, SlideError, StoreExistsError
from wsicodec.geometry import NATIVE_MPP, PATCH, grid_shape
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Embedder, load_embedder
from wsicodec.slide.scaled import Slide
from wsicodec.store import layouts
from wsicodec.store.layouts import FeatureTable

Cell = tuple[int, int]
Floats = NDArray[np.float32]
MOST = 1 << 22  # features of one file, where no slide says how many there can be
SLACK = 8  # a patch may lie off the lattice by its side over this
MAGNIFICATION = 20.0  # at NATIVE_MPP
LAYOUTS = (".h5", ".hdf5", ".h5ad", ".pt")


@dataclass(frozen=True, slots=True)
class ReadyFeatures:
    """Embeddings that need not be computed."""

    vectors: Floats  # (n, d)
    rows: NDArray[np.intp]  # (gy, gx) row of every cell, -1 where there is none
    digest: str  # 64 hex digits, of vectors and places

    def embed(
        self,
        cells: list[Cell],
        patches: NDArray[np.uint8],
        embed: Callable[[NDArray[np.uint8]], Floats],
    ) -> Floats:
        """Embeddings of patches (n, 256, 256, 3) at `cells`; `embed` is asked for those missing."""
        rows = self.rows[tuple(np.array(cells).T)]
        missing = rows < 0
        found: Floats = self.vectors[rows]
        if missing.any():
            found[missing] = embed(patches[missing])
        return found


def read_features(path: str | Path, slide: Slide, width: int) -> ReadyFeatures:
    """Read a file of features made from the same slide.

    That the features come from the bundle's own embedder cannot be seen; only their width can.

    Args:
        path: the HDF5 file.
        slide: that they are of; coordinates are in its source's pixels.
        width: of the bundle's embeddings.

    Raises:
        SlideError: no such file, other widths, patches of another size or off the lattice.
    """
    shape = grid_shape(slide.shape)
    vectors, coords, side = _read(path, width, shape[0] * shape[1])
    step = PATCH * slide.reduction
    if side is not None and side != step:
        raise SlideError(
            f"expected features of patches of {step} px of the source (256 px at "
            f"{slide.mpp:.3g} µm/px), got {side:g} px; extract them at that size"
        )
    rows = _place(coords, step, shape)
    digest = sha256(vectors.tobytes() + rows.tobytes()).hexdigest()
    return ReadyFeatures(vectors, rows, digest)


def read_all(path: str | Path, width: int) -> tuple[Floats, NDArray[np.int64]]:
    """All features (n, width) of a file and their corners x, y, of whatever slide they are.

    Raises:
        SlideError: no such file, or other widths.
    """
    return _read(path, width, MOST)[:2]


def embedder_for(bundle: Bundle, backend: str, *, ready: bool) -> Embedder:
    """The bundle's embedder; one that refuses to embed, if it has none and features are `ready`."""
    if not (ready and bundle.lacks("encode")):
        bundle.require("encode")
        return load_embedder(bundle, backend)
    bundle.require("take ready features of")

    def refuse(patches: NDArray[np.uint8]) -> Floats:
        raise BundleError(
            f"the features lack {len(patches)} or more patches of tissue, and bundle "
            f"{bundle.name} has no embedder to embed them; give features of every patch with "
            "tissue, or join the bundle with its embedder"
        )

    return refuse


def _read(
    path: str | Path, width: int, most: int
) -> tuple[Floats, NDArray[np.int64], float | None]:
    try:
        with _h5py().File(path, "r") as file:
            return _arrays(file, Path(path).name, width, most)
    except OSError as error:
        raise SlideError(f"expected an HDF5 file with features at {path}: {error}") from error


def _arrays(
    file: Any, name: str, width: int, most: int
) -> tuple[Floats, NDArray[np.int64], float | None]:
    """Features, coordinates and the side of a patch in source pixels if the file says."""
    if "features" not in file or "coords" not in file:
        raise SlideError(f"expected 'features' and 'coords' in {name}, got {sorted(file)}")
    features, coords = file["features"], file["coords"]
    shape = features.shape[1:] if features.ndim == 3 and features.shape[0] == 1 else features.shape
    if len(shape) != 2 or shape[1] != width or coords.shape != (shape[0], 2):
        raise SlideError(
            f"expected features (n, {width}) and coords (n, 2) in {name}, got {features.shape} "
            f"and {coords.shape}; they must come from the bundle's own embedder"
        )
    if not 0 < shape[0] <= most:
        raise SlideError(
            f"expected at most {most} features, a patch each, in {name}, got {shape[0]}; "
            "overlapping patches cannot be taken"
        )
    vectors = np.asarray(features[...], np.float32).reshape(shape)
    if not np.isfinite(vectors).all():
        raise SlideError(f"expected finite features in {name}, but some are not")
    attributes = coords.attrs
    side = attributes.get("patch_size_level0")
    if side is None and "patch_size" in attributes and "downsample" in attributes:
        side = float(attributes["patch_size"]) * float(np.ravel(attributes["downsample"])[0])
    return vectors, np.asarray(coords[...], np.int64), None if side is None else float(side)


def _place(coords: NDArray[np.int64], step: int, shape: tuple[int, int]) -> NDArray[np.intp]:
    """The row of every cell (gy, gx), from corners x, y in source pixels; -1 where none lies."""
    cells = (coords[:, ::-1] + step // 2) // step
    off = int(np.abs(coords[:, ::-1] - cells * step).max())
    if off > step // SLACK:
        raise SlideError(
            f"expected patches side by side from the slide's corner, {step} px apart; some lie "
            f"{off} px off. Extract them on that lattice, or let the bundle's embedder do it"
        )
    if (cells < 0).any() or (cells >= shape).any():
        raise SlideError(
            f"expected patches inside {shape[0]} x {shape[1]} cells of {step} px, but some lie "
            "outside; are they of another slide?"
        )
    rows = np.full(shape, -1, np.intp)
    rows[tuple(cells.T)] = np.arange(len(cells))
    if (rows >= 0).sum() != len(cells):
        raise SlideError("expected one feature per patch, but several lie at the same place")
    return rows


def export_features(group: zarr.Group, out: Path, overwrite: bool = False) -> Path:
    """Write a store's embeddings as a file that others read.

    Args:
        group: the store's root.
        out: the file, which appears under its name only when it is whole: .h5 or .hdf5 for CLAM,
            TRIDENT and their readers, .h5ad for AnnData, .pt for Slideflow.
        overwrite: replace an existing file.

    Returns:
        `out`.

    Raises:
        StoreExistsError: the file exists.
        ConfigError: a name with another ending, or a library missing.
    """
    info = StoreInfo.from_json(group.attrs.get("wsicodec"))
    if out.suffix.lower() not in LAYOUTS:
        raise ConfigError(f"expected a name ending in {', '.join(LAYOUTS)}, got {out.name!r}")
    if out.exists() and not overwrite:
        raise StoreExistsError(
            f"expected nothing at {out}, but something stands there; "
            "give overwrite=True (on the command line --overwrite), or choose another name"
        )
    table = FeatureTable.of(group, info)
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out.suffix.lower() == ".h5ad":
            layouts.write_anndata(table, partial)
        elif out.suffix.lower() == ".pt":
            layouts.write_bag(table, partial, out)
        else:
            with _h5py().File(partial, "w") as file:
                _write(table, file)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def _write(table: FeatureTable, file: Any) -> None:
    info, reduction = table.info, table.reduction
    features = file.create_dataset("features", table.shape, "float32", chunks=True)
    done = 0
    for part in table.parts():
        features[done : done + len(part)] = part
        done += len(part)
    coords = file.create_dataset("coords", data=table.corners)
    magnification = MAGNIFICATION * NATIVE_MPP / info.mpp
    coords.attrs.update(
        patch_size=PATCH,
        patch_size_level0=PATCH * reduction,
        target_magnification=magnification,
        level0_magnification=magnification * reduction,
        overlap=0,
        level0_width=info.shape[1] * reduction,
        level0_height=info.shape[0] * reduction,
    )
    features.attrs["encoder"] = table.encoder


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("features in HDF5 need h5py; install wsicodec[features]") from error
    return h5py
