"""What a store will hold, decided before a pixel is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec.coding.images import LOSSLESS, ImageFormat
from wsicodec.config import BLANK, GENERATED, MEASURED
from wsicodec.errors import BundleError, ConfigError
from wsicodec.geometry import LEVELS, PATCH, Region, level_shape
from wsicodec.models.bundle import AnchorPlan, Bundle
from wsicodec.presets import Preset
from wsicodec.store.metadata import CHUNK, GRID_CHUNK

BLOCK = GRID_CHUNK * PATCH  # level-0 pixels; side of the unit of work, one chunk of embeddings
OVERVIEW_ABOVE = 4096  # pixels; a picture with a longer side gets a coarser one beside it
OVERVIEW_STEP = 3  # levels
PATHS = ("anchor", "overview", "thumbnail")  # of stored pictures, finest first
OVERVIEW_QUALITY = 20  # better than its anchor by this; it has a 64th of the pixels
MAX_QUALITY = 90
PASSED_THROUGH = ImageFormat("avif", quality=85)  # overviews of a source kept as it was


@dataclass(frozen=True, slots=True)
class Picture:
    """One level kept as real pixels."""

    path: str  # of its array, below the slide's root
    level: int
    shape: tuple[int, int]  # height, width in pixels of its level
    form: ImageFormat

    @property
    def chunk(self) -> tuple[int, int]:
        """Height and width of a chunk; small pictures are not padded to a whole one."""
        if self.form.tile is not None:
            return _whole_tiles(self.form.tile[0]), _whole_tiles(self.form.tile[1])
        return min(CHUNK, self.shape[0]), min(CHUNK, self.shape[1])

    @property
    def spans_blocks(self) -> bool:
        """Whether one chunk takes pixels of several blocks."""
        return BLOCK >> self.level < CHUNK

    @property
    def copied(self) -> bool:
        """Whether the source's own tiles are copied instead of coding pixels."""
        return self.form.tile is not None

    def chunk_path(self, i: int, j: int) -> str:
        """Where chunk (i, j) stands in the store."""
        return f"{self.path}/c/{i}/{j}/0"


def plan_pictures(
    shape: tuple[int, int],
    preset: Preset,
    bundle: Bundle,
    source_tiles: ImageFormat | None,
    settle: Callable[[AnchorPlan], int],
) -> tuple[Picture, ...]:
    """The real pictures that a preset keeps.

    shape: height and width of level 0 in pixels.
    source_tiles: how the source's own JPEG tiles are passed through, where they can be.
    settle: says how well to code the anchor that the bundle plans.

    Raises BundleError if the bundle has no anchor for the preset.
    """
    if preset.measured:
        form = source_tiles or LOSSLESS
        coarse = PASSED_THROUGH if source_tiles else LOSSLESS
        return _with_overviews(shape, 0, form, coarse)
    if not preset.anchor:
        return ()
    plan = bundle.anchor(preset.name)
    if plan is None:
        raise BundleError(
            f"expected bundle {bundle.name} to plan an anchor for preset {preset.name}, but it "
            "has none; choose preset semantic or another bundle"
        )
    quality = settle(plan)
    finer = min(MAX_QUALITY, quality + OVERVIEW_QUALITY)
    return _with_overviews(
        shape, plan.level, ImageFormat(plan.codec, quality), ImageFormat(plan.codec, finer)
    )


def snap_regions(
    regions: list[tuple[int, int, int, int]], shape: tuple[int, int]
) -> tuple[Region, ...]:
    """Regions of interest in level-0 pixels, grown to whole patches, cut at the slide's border.

    regions: y0, x0, y1, x1 each. Raises ConfigError for one that holds no pixel of the slide.
    """
    snapped = []
    for y0, x0, y1, x1 in regions:
        region = Region(y0, x0, y1, x1).clip(shape)
        if region.empty:
            raise ConfigError(
                f"expected a roi y0,x0,y1,x1 inside the slide's {shape[0]}x{shape[1]} pixels of "
                f"level 0, got {y0},{x0},{y1},{x1}"
            )
        snapped.append(region.scale_down(PATCH).scale_up(PATCH).clip(shape))
    return tuple(dict.fromkeys(snapped))


def patch_classes(
    tissue: NDArray[np.bool_], measured: bool, roi: tuple[Region, ...]
) -> NDArray[np.uint8]:
    """The `tissue` array (gy, gx): BLANK, GENERATED or MEASURED; all but BLANK are embedded."""
    classes = np.where(tissue, MEASURED if measured else GENERATED, BLANK).astype(np.uint8)
    for region in roi:
        classes[region.scale_down(PATCH).slices()] = MEASURED
    return classes


def describe(pictures: tuple[Picture, ...]) -> list[dict[str, Any]]:
    """The pictures as JSON, for the record of how a slide was made."""
    return [
        {"path": p.path, "level": p.level, "codec": p.form.codec, "quality": p.form.quality}
        for p in pictures
    ]


def _with_overviews(
    shape: tuple[int, int], level: int, form: ImageFormat, coarse: ImageFormat
) -> tuple[Picture, ...]:
    pictures = [Picture(PATHS[0], level, level_shape(shape, level), form)]
    while max(pictures[-1].shape) > OVERVIEW_ABOVE and level + OVERVIEW_STEP < LEVELS:
        level += OVERVIEW_STEP
        path = PATHS[len(pictures)]
        pictures.append(Picture(path, level, level_shape(shape, level), coarse))
    return tuple(pictures)


def _whole_tiles(tile: int) -> int:
    return tile * max(1, CHUNK // tile)
