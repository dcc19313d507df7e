"""All that one encoding goes by, settled before the first patch is embedded."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsicodec import __version__
from wsicodec.codec.embed_zarr import Embed
from wsicodec.config import BLANK, STORE_FORMAT, StoreInfo
from wsicodec.geometry import Region
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Embedder, Floats
from wsicodec.models.sketch import LEVEL, load_sketch
from wsicodec.presets import Preset
from wsicodec.slide.passthrough import JpegTiles
from wsicodec.slide.scaled import Slide
from wsicodec.slide.tissue import TissueMap, find_tissue
from wsicodec.store.features import ReadyFeatures
from wsicodec.store.metadata import CHUNK
from wsicodec.store.passthrough import tile_format
from wsicodec.store.plan import Picture, describe, patch_classes, plan_pictures, snap_regions
from wsicodec.store.quality import settle_quality


@dataclass(frozen=True, slots=True)
class Work:
    """One slide, one bundle, and what is kept of it."""

    slide: Slide
    bundle: Bundle
    embed: Embedder
    preset: Preset
    tissue: TissueMap
    classes: NDArray[np.uint8]  # the `tissue` array (gy, gx)
    pictures: tuple[Picture, ...]
    roi: tuple[Region, ...]  # level-0 pixels
    tiles: JpegTiles | None  # of the source, where level 0 is passed through
    ready: ReadyFeatures | None = None  # embeddings that need not be computed
    sketch: dict[int, str] = field(default_factory=dict)  # level -> digest of what computes it

    def vectors(self, cells: list[tuple[int, int]], patches: NDArray[np.uint8]) -> Floats:
        """Embeddings of patches (n, 256, 256, 3) at cells of the grid."""
        if self.ready is None:
            return self.embed(patches)
        return self.ready.embed(cells, patches, self.embed)

    @property
    def codec(self) -> Embed:
        """The codec of the embeddings."""
        return Embed(self.bundle.fingerprint)

    @property
    def embedded(self) -> NDArray[np.bool_]:
        """Which patches (gy, gx) have an embedding."""
        return np.not_equal(self.classes, BLANK)

    @property
    def drawn(self) -> tuple[Picture, ...]:
        """The pictures that are coded from pixels."""
        return tuple(p for p in self.pictures if not p.copied)

    @property
    def roi_chunk(self) -> tuple[int, int]:
        """Height and width of a chunk of `roi/`."""
        return min(CHUNK, self.slide.shape[0]), min(CHUNK, self.slide.shape[1])


def plan_work(
    slide: Slide,
    bundle: Bundle,
    embed: Embedder,
    preset: Preset,
    roi: Sequence[tuple[int, int, int, int]],
    ready: ReadyFeatures | None = None,
) -> Work:
    """Settle what is kept of a slide.

    roi: y0, x0, y1, x1 in level-0 pixels each.
    ready: embeddings that need not be computed.
    """
    regions = snap_regions(list(roi), slide.shape)
    tiles = slide.tiles if preset.measured else None
    source = tile_format(tiles) if tiles is not None else None
    tissue = find_tissue(slide)
    settle = partial(settle_quality, slide, np.where(tissue.grid, tissue.share, 0))
    pictures = plan_pictures(slide.shape, preset, bundle, source, settle)
    classes = patch_classes(tissue.grid, preset.measured, regions)
    sketch = {} if pictures else _find_sketch(bundle)
    return Work(
        slide, bundle, embed, preset, tissue, classes, pictures, regions, tiles, ready, sketch
    )


def _find_sketch(bundle: Bundle) -> dict[int, str]:
    """Level and digest of the sketch that stands in for a real picture, if the bundle has one."""
    sketch = load_sketch(bundle)
    return {} if sketch is None else {LEVEL: sketch.digest}


def identity(work: Work) -> dict[str, Any]:
    """Everything that decides on the bytes of the store, for telling whether a run may resume."""
    slide = work.slide
    path = getattr(slide.reader, "path", None)
    stat = Path(path).stat() if path is not None else None
    return {
        "format": STORE_FORMAT,
        "encoder": __version__,
        "size": stat.st_size if stat else None,
        "modified_ns": stat.st_mtime_ns if stat else None,
        "overview": work.tissue.digest,
        "shape": list(slide.shape),
        "mpp": slide.mpp,
        "preset": work.preset.name,
        "bundle": work.bundle.fingerprint,
        "roi": [[r.y0, r.x0, r.y1, r.x1] for r in work.roi],
        "tissue": hashlib.sha256(work.classes.tobytes()).hexdigest(),
        "pictures": describe(work.pictures),
        "sketch": {str(level): digest for level, digest in work.sketch.items()},
        **({"features": work.ready.digest} if work.ready is not None else {}),
    }


def describe_slide(work: Work, digest: str) -> StoreInfo:
    """The `wsicodec` attribute of the store.

    digest: 32 hex digits, of what the pixels are made from.
    """
    slide, tissue = work.slide, work.tissue
    source: dict[str, Any] = {
        "facts": dict(slide.facts),
        "mpp": slide.mpp / slide.reduction,
        "tissue": round(tissue.fraction, 4),
        "derivation": _derivation(work),
    }
    if slide.icc:
        source["icc"] = "icc"
    return StoreInfo(
        slide=digest,
        fingerprint=work.bundle.fingerprint,
        bundle=work.bundle.name,
        shape=slide.shape,
        mpp=slide.mpp,
        mpp_source=slide.mpp_source,
        preset=work.preset.name,
        measured={p.level: p.path for p in work.pictures},
        sketch=work.sketch,
        roi=tuple((r.y0, r.x0, r.y1, r.x1) for r in work.roi),
        background=tissue.background,
        steps=work.bundle.steps,
        source=source,
        encoder=f"wsicodec {__version__}",
    )


def _derivation(work: Work) -> list[dict[str, Any]]:
    """Every lossy step from the scanner on, the source's own first (as DICOM keeps them)."""
    steps: list[dict[str, Any]] = []
    facts = work.slide.facts
    if facts.get("compression"):
        kept = {k: facts[k] for k in ("quality",) if k in facts}
        steps.append({"step": "source", "method": facts["compression"], **kept})
    if work.slide.reduction > 1:
        steps.append({"step": "reduce", "method": "box", "factor": work.slide.reduction})
    method = "wsicodec" if work.ready is None else "features at hand"
    steps.append({"step": "embed", "method": method, "drawn": "generative"})
    return steps + [{"step": "keep", **picture} for picture in describe(work.pictures)]
