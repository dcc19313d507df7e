"""A store's embeddings as a table of patches, and the files of AnnData and Slideflow.

    SLIDE.h5ad        AnnData: X (n, d), obsm["spatial"] (n, 2) patch centres x, y, obs row, column;
                      SpatialData takes it as a table
    SLIDE.pt          Slideflow: a float32 tensor (n, d)
    SLIDE.index.npz   beside it: arr_0 (n, 2), patch centres x, y

All places are in pixels of the source's finest level.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from wsicodec.config import BLANK, StoreInfo
from wsicodec.errors import ConfigError
from wsicodec.geometry import PATCH

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """One row per patch that has an embedding, row-major over the slide."""

    info: StoreInfo
    embeddings: "zarr.Array[Any]"
    kept: NDArray[np.bool_]  # (gy, gx)

    @classmethod
    def of(cls, group: zarr.Group, info: StoreInfo) -> Self:
        """The table of a store's root."""
        embeddings, tissue = group["embeddings"], group["tissue"]
        assert isinstance(embeddings, zarr.Array)
        assert isinstance(tissue, zarr.Array)
        return cls(info, embeddings, np.asarray(np.asarray(tissue[...]) != BLANK, np.bool_))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and values in each."""
        return int(self.kept.sum()), int(self.embeddings.shape[2])

    @property
    def reduction(self) -> int:
        """Pixels of the source's finest level per pixel of level 0, a side."""
        return round(self.info.mpp / float(self.info.source["mpp"]))

    @property
    def cells(self) -> NDArray[np.int64]:
        """Row and column (n, 2) of every patch in the grid."""
        return np.argwhere(self.kept).astype(np.int64)

    @property
    def corners(self) -> NDArray[np.int64]:
        """x, y (n, 2) of every patch's upper left corner."""
        return np.ascontiguousarray(self.cells[:, ::-1] * (PATCH * self.reduction))

    @property
    def centres(self) -> NDArray[np.int64]:
        """x, y (n, 2) of every patch's centre."""
        return self.corners + PATCH * self.reduction // 2

    @property
    def encoder(self) -> str:
        """What made the embeddings."""
        return f"wsicodec bundle {self.info.bundle} {self.info.fingerprint[:16]}"

    def parts(self) -> Iterator[Floats]:
        """The embeddings (m, d), a row of chunks at a time."""
        step = self.embeddings.chunks[0]
        for y in range(0, self.kept.shape[0], step):
            rows = np.asarray(self.embeddings[y : y + step], np.float32)
            yield rows[self.kept[y : y + step]]

    def vectors(self) -> Floats:
        """All embeddings (n, d)."""
        return np.concatenate([np.empty((0, self.shape[1]), np.float32), *self.parts()])


def write_anndata(table: FeatureTable, path: Path) -> None:
    """Write the table as an AnnData file; raises ConfigError where the library is missing."""
    try:
        import anndata
    except ImportError as error:
        raise ConfigError(
            "features for AnnData need the library; install wsicodec[anndata]"
        ) from error
    rows, columns = table.cells.T
    names = [f"{y}x{x}" for y, x in table.cells]
    told = anndata.AnnData(
        X=table.vectors(),
        obs={"row": rows, "column": columns, "obs_names": names},
        obsm={"spatial": table.centres.astype(np.float64)},
        uns={
            "encoder": table.encoder,
            "mpp": table.info.mpp / table.reduction,
            "patch_size_level0": PATCH * table.reduction,
        },
    )
    told.write_h5ad(path)


def write_bag(table: FeatureTable, path: Path, out: Path) -> None:
    """Write the table as a Slideflow bag, its index and a note on its maker beside `out`.

    Args:
        table: the embeddings.
        path: where the tensor is written first.
        out: what it will be called.

    Raises:
        ConfigError: PyTorch is missing.
    """
    from importlib.util import find_spec

    if not find_spec("torch"):
        raise ConfigError("features for Slideflow need PyTorch; install wsicodec[torch]")
    from wsicodec.models.tensor_files import save_tensor

    save_tensor(table.vectors(), path)
    np.savez(out.with_name(f"{out.stem}.index.npz"), table.centres)
    told = {
        "extractor": {"class": table.encoder, "kwargs": {}},
        "normalizer": None,
        "num_features": table.shape[1],
        "tile_px": PATCH,
        "tile_um": round(PATCH * table.info.mpp, 3),
    }
    config = out.with_name("bags_config.json")
    if not config.exists():
        config.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
