"""The dial: what each preset stores, and the rate it should reach.

A preset without a real picture is drawn from a sketch, eight pixels a patch, that a reader computes
from the embeddings; with a bundle that has no embedding diffusion model, it is drawn from noise.
"""

from dataclasses import dataclass

from wsicodec.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Preset:
    """One setting of the dial. Embeddings are part of every one."""

    name: str
    stores: str  # for people
    anchor: bool  # a real picture at the level and quality that the bundle says
    measured: bool  # level 0 itself
    bpp: float | None  # bits on disk per level-0 pixel of tissue, at most; None: the source's


PRESETS = {
    p.name: p
    for p in (
        Preset("semantic", "embeddings alone", anchor=False, measured=False, bpp=0.015),
        Preset("standard", "embeddings and a coarse anchor", anchor=True, measured=False, bpp=0.03),
        Preset("detail", "embeddings and a good anchor", anchor=True, measured=False, bpp=0.15),
        Preset("measured", "embeddings and level 0 itself", anchor=False, measured=True, bpp=None),
    )
}
DEFAULT_PRESET = "standard"


def find_preset(name: str) -> Preset:
    """The preset of that name; raises ConfigError with the names there are."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ConfigError(f"expected preset {', '.join(PRESETS)}, got {name!r}") from None
