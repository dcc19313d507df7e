"""Whole-slide images as embeddings in a zarr pyramid whose pixels a model draws back."""

import importlib
from typing import TYPE_CHECKING

from wsicodec.errors import (
    BitstreamError,
    BundleError,
    ConfigError,
    GeneratedPixelsError,
    MppError,
    SlideError,
    StoreError,
    StoreExistsError,
    WsiCodecError,
)

if TYPE_CHECKING:
    from wsicodec.api import check, decode, encode, info, open, sample  # noqa: A004

__version__ = "0.1.0"

__all__ = [
    "BitstreamError",
    "BundleError",
    "ConfigError",
    "GeneratedPixelsError",
    "MppError",
    "SlideError",
    "StoreError",
    "StoreExistsError",
    "WsiCodecError",
    "__version__",
    "check",
    "decode",
    "encode",
    "info",
    "open",
    "sample",
]

_CALLS = frozenset(
    {"check", "decode", "encode", "info", "open", "sample"}
)  # loaded when first asked for


def __getattr__(name: str) -> object:
    if name in _CALLS:
        return getattr(importlib.import_module("wsicodec.api"), name)
    raise AttributeError(f"module 'wsicodec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
