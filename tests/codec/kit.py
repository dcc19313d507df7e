"""What a store says of itself, where no store is."""

from typing import Any

from wsicodec.config import StoreInfo


def info_of(shape: tuple[int, int], **facts: Any) -> StoreInfo:
    """The attribute of a slide of `shape` pixels at 0.5 um/px that keeps no picture."""
    plain: dict[str, Any] = {
        "slide": "0" * 32, "fingerprint": "f" * 64, "bundle": "none", "mpp": 0.5,
        "mpp_source": "caller", "preset": "semantic", "measured": {},
    }  # fmt: skip
    return StoreInfo(shape=shape, **(plain | facts))
