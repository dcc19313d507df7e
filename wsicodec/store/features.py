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

from wsicodec.config import BLANK, StoreInfo
from wsicodec.errors import ConfigError, SlideError, StoreExistsError
from wsicodec.geometry import NATIVE_MPP, PATCH, grid_shape
from wsicodec.slide.scaled import Slide

Cell = tuple[int, int]
Floats = NDArray[np.float32]
SLACK = 8  # a patch may lie off the lattice by its side over this
MAGNIFICATION = 20.0  # at NATIVE_MPP


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
    try:
        with _h5py().File(path, "r") as file:
            vectors, coords, side = _arrays(file, Path(path).name, slide, width)
    except OSError as error:
        raise SlideError(f"expected an HDF5 file with features at {path}: {error}") from error
    step = PATCH * slide.reduction
    if side is not None and side != step:
        raise SlideError(
            f"expected features of patches of {step} px of the source (256 px at "
            f"{slide.mpp:.3g} µm/px), got {side:g} px; extract them at that size"
        )
    rows = _place(coords, step, grid_shape(slide.shape))
    digest = sha256(vectors.tobytes() + rows.tobytes()).hexdigest()
    return ReadyFeatures(vectors, rows, digest)


def _arrays(
    file: Any, name: str, slide: Slide, width: int
) -> tuple[Floats, NDArray[np.int64], float | None]:
    """Features, coordinates and the side of a patch in source pixels if the file says."""
    if "features" not in file or "coords" not in file:
        raise SlideError(f"expected 'features' and 'coords' in {name}, got {sorted(file)}")
    features, coords = file["features"], file["coords"]
    shape = features.shape[1:] if features.ndim == 3 and features.shape[0] == 1 else features.shape
    rows, columns = grid_shape(slide.shape)
    if len(shape) != 2 or shape[1] != width or coords.shape != (shape[0], 2):
        raise SlideError(
            f"expected features (n, {width}) and coords (n, 2) in {name}, got {features.shape} "
            f"and {coords.shape}; they must come from the bundle's own embedder"
        )
    if not 0 < shape[0] <= rows * columns:
        raise SlideError(
            f"expected at most {rows * columns} features for a slide of {rows} x {columns} "
            f"patches, got {shape[0]}; overlapping patches cannot be taken"
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
    """Write a store's embeddings as an HDF5 file that CLAM, TRIDENT and their readers take.

    Args:
        group: the store's root.
        out: the file, ending in .h5 or .hdf5; it appears under its name only when it is whole.
        overwrite: replace an existing file.

    Returns:
        `out`.

    Raises:
        StoreExistsError: the file exists.
        ConfigError: a name that is not an HDF5 file's.
    """
    info = StoreInfo.from_json(group.attrs.get("wsicodec"))
    if out.suffix.lower() not in (".h5", ".hdf5"):
        raise ConfigError(f"expected a name ending in .h5 or .hdf5, got {out.name!r}")
    if out.exists() and not overwrite:
        raise StoreExistsError(
            f"expected nothing at {out}, but something stands there; "
            "give overwrite=True (on the command line --overwrite), or choose another name"
        )
    partial = out.with_name(f".{out.name}.partial")
    try:
        with _h5py().File(partial, "w") as file:
            _write(group, info, file)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return out


def _write(group: zarr.Group, info: StoreInfo, file: Any) -> None:
    embeddings, tissue = group["embeddings"], group["tissue"]
    assert isinstance(embeddings, zarr.Array)
    assert isinstance(tissue, zarr.Array)
    kept = np.asarray(tissue[...]) != BLANK
    reduction = round(info.mpp / float(info.source["mpp"]))
    features = file.create_dataset(
        "features", (int(kept.sum()), embeddings.shape[2]), "float32", chunks=True
    )
    done, step = 0, embeddings.chunks[0]
    for y in range(0, kept.shape[0], step):
        part = np.asarray(embeddings[y : y + step], np.float32)[kept[y : y + step]]
        features[done : done + len(part)] = part
        done += len(part)
    places = np.argwhere(kept)[:, ::-1] * (PATCH * reduction)
    coords = file.create_dataset("coords", data=places.astype(np.int64))
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
    features.attrs["encoder"] = f"wsicodec bundle {info.bundle} {info.fingerprint[:16]}"


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("features in HDF5 need h5py; install wsicodec[features]") from error
    return h5py
