"""Sizes of the embedding diffusion model, and the tensors that they ask for."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.errors import ConfigError

OUTLINE, CONTENT = 0, 1  # phases: where tissue is, then what it is
TIMES = 8  # frequencies that tell the time
FIRST_MAGNIFICATION = 3  # index of the magnification whose conditioning has cells of one patch


@dataclass(frozen=True, slots=True)
class EdmConfig:
    """Sizes of an embedding diffusion model."""

    components: int = 78  # Karhunen-Loeve coefficients per embedding
    width: int = 144
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    octaves: int = 5
    window: int = 16  # cells a side that it is trained to see

    def __post_init__(self) -> None:
        shapeless = self.width % (4 * self.heads) or self.window % 4
        if min(asdict(self).values()) < 1 or shapeless:
            raise ConfigError(
                "expected positive sizes, a width that is a multiple of four times the heads and a "
                "window that is a multiple of 4, "
                f"got {self}"
            )

    @property
    def channels(self) -> int:
        """Coverage and coefficients."""
        return 1 + self.components

    @property
    def inputs(self) -> int:
        """Values per cell that go in: noisy, of the parent, its flag, and inside or outside."""
        return 2 * self.channels + 2

    @property
    def told(self) -> int:
        """Values that tell time, phase and octave."""
        return 2 * TIMES + 2 + self.octaves

    def to_json(self) -> dict[str, int]:
        """A JSON-safe copy; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Read the configuration back; raises ConfigError on unknown keys."""
        try:
            return cls(**record)
        except TypeError as error:
            raise ConfigError(f"expected the settings of an EdmConfig, got {record}") from error


def octave_of_magnification(mag_index: int) -> int:
    """The octave whose 8 x 8 cells condition a tile at a magnification index 0..7."""
    return max(0, mag_index - FIRST_MAGNIFICATION)


def time_angles() -> NDArray[np.float32]:
    """Angular frequencies (TIMES,) of the sinusoids that tell the time."""
    return np.asarray(math.pi * 2.0 ** np.arange(TIMES), np.float32)


def shapes(config: EdmConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor of a model by name."""
    width, hidden = config.width, config.mlp_ratio * config.width
    linear = {
        "inputs": (width, config.inputs),
        "time1": (width, config.told),
        "time2": (width, width),
        "modulation": (6 * width, width),
        "outputs": (config.channels, width),
    }
    found: dict[str, tuple[int, ...]] = {"last": (2, width)}
    for i in range(config.depth):
        found[f"blocks.{i}.table"] = (6, width)
        linear[f"blocks.{i}.qkv"] = (3 * width, width)
        linear[f"blocks.{i}.proj"] = (width, width)
        linear[f"blocks.{i}.fc1"] = (hidden, width)
        linear[f"blocks.{i}.fc2"] = (width, hidden)
    for name, shape in linear.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]
    statistics = (config.octaves, config.components)
    return found | {"mean": statistics, "deviation": statistics}
