"""Some tiles of what a codec gave back, kept for the report."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsicodec.bench.output import Pixels
from wsicodec.bench.table import KEYS
from wsicodec.geometry import PATCH

TILES = 6  # places that the report shows


def tiles(fields: Sequence[Pixels]) -> bytes:
    """The middle 256 px of some fields side by side, as a WebP that looks like them."""
    chosen = np.linspace(0, len(fields) - 1, min(TILES, len(fields))).round().astype(int)
    parts: list[NDArray[np.uint8]] = []
    for i in chosen:
        top, left = ((n - PATCH) // 2 for n in fields[i].shape[:2])
        parts.append(fields[i][top : top + PATCH, left : left + PATCH])
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(parts, 1)).save(buffer, "WEBP", quality=92)
    return buffer.getvalue()


def strip_name(row: Mapping[str, Any]) -> str:
    """The file of a row's tiles, the same for all levels."""
    text = " ".join(str(row[key]) for key in KEYS if key not in ("level", "judges"))
    return hashlib.sha256(text.encode()).hexdigest()[:16] + ".webp"


def truth_name(fields_digest: str) -> str:
    """The file of the originals' tiles."""
    return f"original_{fields_digest}.webp"
