"""From a slide to a finished store: `encode_slide`."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from wsicodec.errors import WsiCodecError
from wsicodec.models.bundle import Bundle
from wsicodec.models.networks import Embedder
from wsicodec.presets import DEFAULT_PRESET, Preset, find_preset
from wsicodec.slide.scaled import Slide
from wsicodec.store.features import read_features
from wsicodec.store.finish import finish_store
from wsicodec.store.job import Job
from wsicodec.store.publish import Destination, Target, check_destination
from wsicodec.store.report import EncodeReport
from wsicodec.store.run import Progress, run_blocks
from wsicodec.store.work import Work, identity, plan_work

__all__ = ["EncodeReport", "check_destination", "encode_slide"]


def encode_slide(  # noqa: PLR0913, all but four by keyword
    slide: Slide,
    dst: Target,
    bundle: Bundle,
    embed: Embedder,
    preset: Preset | str = DEFAULT_PRESET,
    roi: Sequence[tuple[int, int, int, int]] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
    features: str | Path | None = None,
) -> EncodeReport:
    """Encode a slide into a new store, which appears under its name only when it is whole.

    A run that is cut off leaves a hidden folder beside `dst`; the next one of the same slide and
    settings goes on from there and ends with the same bytes. A store object or URL is filled
    from a temporary folder, its root last, and starts afresh every time.

    Args:
        slide: in the frame of level 0.
        dst: a folder, a path ending in .zip, a zarr store object or an fsspec URL.
        bundle: whose integer tables code the embeddings, and who plans the anchor.
        embed: patches (n, 256, 256, 3) uint8 to embeddings (n, d) float32.
        preset: one of `wsicodec.presets.PRESETS`, or its name.
        roi: y0, x0, y1, x1 in level-0 pixels, kept measured; grown to whole patches.
        overwrite: replace the store at `dst`, once the new one is whole.
        progress: called with patches done, patches in all and "patches".
        features: HDF5 file of ready embeddings; `embed` is asked for patches that it lacks.

    Raises:
        StoreExistsError: something stands at `dst`; checked before any work.
        ConfigError: an unknown preset, or a roi outside the slide.
        SlideError: the source cannot be read to its end; nothing is left behind.
    """
    began = time.monotonic()
    chosen = find_preset(preset) if isinstance(preset, str) else preset
    destination = Destination(dst)
    destination.refuse_existing(overwrite)
    with ExitStack() as held:
        ready = read_features(features, slide, bundle.embedding_width) if features else None
        work = plan_work(slide, bundle, embed, chosen, roi, ready)
        base = held.enter_context(destination.working_name())
        job = held.enter_context(Job(base, identity(work)))
        try:
            size = finish_store(job, work, run_blocks(job, work, progress))
            size = destination.publish(job, overwrite) or size
        except WsiCodecError:
            job.discard()
            raise
        job.discard()
    return _report(work, str(destination), size, time.monotonic() - began)


def _report(work: Work, path: str, size: int, seconds: float) -> EncodeReport:
    return EncodeReport.of(
        path,
        size,
        work.slide.shape,
        work.classes,
        fraction=work.tissue.fraction,
        patches=int(work.embedded.sum()),
        seconds=seconds,
    )
