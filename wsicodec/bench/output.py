"""What a codec gives back of all fields, and what that cost."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Levels = Callable[[int], list[Pixels]]
"""The fields at a level, as decoded."""


@dataclass(frozen=True)
class Output:
    """Decoded fields; NaN stands for what was not stored or not timed."""

    bytes: float
    levels: Levels
    encode_seconds: float = float("nan")
    decode_seconds: float = float("nan")  # of everything at level 0; NaN: time `levels`
    windows: bool = False  # whether seams of windows are to be looked for
    weights: str = ""  # fingerprint of the bundle that drew; empty for rivals


def to_bytes(images: NDArray[np.floating]) -> Pixels:
    """(3, h, w) around [-1, 1] to (h, w, 3) bytes, rounded as a reader gets them."""
    scaled = (images.transpose(1, 2, 0) + 1) * 127.5
    return np.asarray(np.clip(np.floor(scaled + 0.5), 0, 255).astype(np.uint8))
