"""A region whose pixels stay where they were drawn, for callers who want them on a device.

Levels above come over the host, as their stored pictures do: a parent's bytes are small. What a
level's own windows draw, three quarters of all pixels and more, is never sent back.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from wsicodec.codec.draw import Pixels, Window
from wsicodec.codec.gather import Engine
from wsicodec.codec.plan import Tile, roi_parts
from wsicodec.codec.region import RegionJob
from wsicodec.codec.state import TileBoard
from wsicodec.geometry import PATCH, Region


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a slide's windows are drawn to stay."""

    engine: Engine
    draw: Callable[[list[Window]], list[Any]]  # tiles on the device
    board: TileBoard  # of such tiles


class _Kept(RegionJob):
    """Fills in tiles that are nothing but drawn."""

    __slots__ = ()

    def finished(self, tile: Tile, pixels: Pixels) -> Pixels:  # noqa: ARG002, it stays whole
        """The tile as it was drawn; whoever shows it cuts it."""
        return pixels


def run_kept(job: RegionJob, level: int, region: Region) -> Any:
    """As `RegionJob.run`, for a region inside the slide.

    Returns:
        (h, w, 3) bytes on the device, or in host memory if nothing of it is drawn there.
    """
    screen: Screen | None = job.screen
    drawn_here = job.record.picture_for(level) is None and not job.record.is_sketched(level)
    if screen is None or not drawn_here:
        return job.run(level, region)
    for k in sorted(job.plan.missing, reverse=True):
        if k != level:
            job.fill(job.plan.missing[k])
    tiles = job.plan.missing.get(level, [])
    drawn = {t for t in tiles if job.record.is_generated(*t) and not roi_parts(job.record, t)}
    job.fill([tile for tile in tiles if tile not in drawn])
    _on_device(job, screen).fill(sorted(drawn))
    return _assembled(job, screen, region, level, drawn)


def _on_device(job: RegionJob, screen: Screen) -> _Kept:
    kept = _Kept(*(getattr(job, field.name) for field in fields(job)))
    kept.board = screen.board
    kept.draw = screen.draw
    return kept


def _assembled(job: RegionJob, screen: Screen, region: Region, level: int, drawn: set[Tile]) -> Any:
    out = screen.engine.empty(region.shape)
    for ty, tx in region.scale_down(PATCH).cells():
        tile = (level, ty, tx)
        place = Region(ty * PATCH, tx * PATCH, (ty + 1) * PATCH, (tx + 1) * PATCH)
        part = place.intersect(region)
        pixels = job.plan.ready[tile][part.slices((place.y0, place.x0))]
        there = pixels if tile in drawn else screen.engine.put(pixels)
        out[part.slices((region.y0, region.x0))] = there
    screen.engine.settle()
    return out
