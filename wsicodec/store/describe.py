"""What a store says of itself, and what it costs, for people and programs."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync

from wsicodec.config import BLANK, GENERATED, MEASURED
from wsicodec.geometry import LEVELS, level_shape
from wsicodec.store.metadata import is_payload
from wsicodec.store.publish import Target, list_objects, read_info, reading
from wsicodec.store.report import bits_per_pixel, tissue_pixels


def describe(source: Target) -> dict[str, Any]:
    """Facts about a store: its attribute, sizes, and rates counted from the bytes it takes.

    source: a folder, a .zip, a zarr store object or an fsspec URL. Raises StoreError if it is
    not a store.
    """
    with reading(source) as store:
        info = read_info(store)
        classes = np.asarray(zarr.open_array(store, path="tissue", mode="r")[...], np.uint8)
        sizes = _sizes(store)
        total = _packed(source) or sum(sizes.values())
    on_tissue = tissue_pixels(classes, info.shape)
    return {
        **info.to_json(),
        "levels": [list(level_shape(info.shape, level)) for level in range(LEVELS)],
        "patches": {
            name: int((classes == value).sum())
            for name, value in (("blank", BLANK), ("generated", GENERATED), ("measured", MEASURED))
        },
        "bytes": total,
        "bytes_by_part": sizes,
        "bpp_slide": bits_per_pixel(total, info.shape[0] * info.shape[1]),
        "bpp_tissue": bits_per_pixel(total, on_tissue) if on_tissue else None,
    }


def _sizes(store: Store) -> dict[str, int]:
    """Bytes of a store's objects by the first part of their path; levels and JSON together."""
    sizes: dict[str, int] = {}
    for path in list_objects(store):
        part = path.partition("/")[0] if is_payload(path) else "metadata"
        sizes[part] = sizes.get(part, 0) + sync(store.getsize(path))
    return sizes


def _packed(source: Target) -> int | None:
    """Bytes of the file that a store is packed in, None if it is not."""
    if isinstance(source, Store) or not Path(source).is_file():
        return None
    return Path(source).stat().st_size
