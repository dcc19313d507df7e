"""Which variants are drawn, and the rows that each gives; runs in any process."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.decoder_measures import NAN, Ground, grey_change, remembered
from benchmarks.decoder_seams import KEYS as SEAMS
from benchmarks.decoder_seams import crossed
from benchmarks.decoder_variants import (
    ENLARGED,
    EXCHANGED,
    PARENT,
    RAW,
    UNLOCKED,
    ZEROED,
    Drawn,
    Variant,
    drawing,
)
from benchmarks.record import Row as Provenance
from wsicodec.bench.fields import gather, lay_out
from wsicodec.bench.judging import Judge
from wsicodec.bench.options import Options
from wsicodec.bench.output import Pixels
from wsicodec.bench.panel import panel_digest
from wsicodec.metrics.features import held_out
from wsicodec.models.bundle import load_bundle
from wsicodec.models.networks import Embedder, load_embedder

LEVELS = (0, 1, 2)
KEYS = (
    "label", "weights", "fields_digest", "judges", "preset", "change", "steps", "seed", "level",
)  # fmt: skip
FIELD_KEYS = (*KEYS, "field")
SEMANTIC_STEPS = (1, 4)  # of the steps asked for, those that are drawn without an anchor, too
TOLD = ("cosine", "cosine_told", "retrieval_100", "retrieval_100_source")
EMBEDDED_AGAIN = (ENLARGED, EXCHANGED, ZEROED, RAW)
Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """A run: the fields, and where stores are kept while it lasts."""

    index: Path
    work: Path
    files: int = 10**9  # of the index, at most
    draws: int = 60  # of the bootstrap


def plan(bundles: Sequence[str], steps: Sequence[int]) -> list[Variant]:
    """All variants, most telling first; the last bundle is the one whose parts are taken away."""
    shipped = bundles[-1]
    presets = ("standard", "semantic")
    jobs = [Variant(shipped, name) for name in (*presets, "detail")]
    jobs += [Variant(shipped, name, change=ENLARGED) for name in ("standard", "detail")]
    jobs += [Variant(shipped, name, change=EXCHANGED) for name in presets]
    jobs += [Variant(shipped, name, seed=1) for name in presets]
    for bundle in reversed(bundles):
        own = load_bundle(bundle).steps
        jobs += [Variant(bundle, "standard")]
        jobs += [Variant(bundle, "standard", n) for n in steps if n != own]
        if bundle == shipped:
            some = [n for n in steps if n in SEMANTIC_STEPS and n != own]
            jobs += [Variant(bundle, "semantic", n) for n in some]
    for change in (ZEROED, RAW):
        jobs += [Variant(shipped, name, change=change) for name in presets]
    jobs += [Variant(shipped, "standard", change=UNLOCKED)]
    own = load_bundle(shipped).steps
    jobs += [Variant(shipped, "standard", n, change=PARENT) for n in (0, 4) if n != own]
    return list(dict.fromkeys(jobs))


@cache
def ground_of(setting: Setting) -> Ground:
    """The fields and their judge, for all bundles."""
    fields = gather(setting.index, files=setting.files)
    judge = Judge([remembered(held_out())], None, setting.draws, similarity=False)
    return Ground(lay_out(f"{setting.index.stem} val", fields), judge)


@cache
def embedder_of(bundle: str) -> Embedder:
    """What sees a bundle's decoded tiles again."""
    return load_embedder(load_bundle(bundle))


def key(ground: Ground, variant: Variant, level: int) -> Row:
    """What names a row."""
    bundle = load_bundle(variant.bundle)
    options = Options((), Path(), draws=ground.judge.draws)
    values = (
        label(variant.bundle),
        bundle.fingerprint[:12],
        ground.mosaic.digest,
        panel_digest(options, bundle),
        variant.preset,
        variant.change,
        variant.steps or bundle.steps,
        variant.seed,
        level,
    )
    return dict(zip(KEYS, values, strict=True))


def label(bundle: str) -> str:
    """What a bundle is called in rows: its name, or the last part of its folder."""
    return Path(bundle).name


def do(setting: Setting, variant: Variant) -> tuple[list[Row], list[Row]]:
    """Draw a variant; rows of its levels, and of the fields where it is what a reader gets."""
    ground = ground_of(setting)
    with drawing(ground.mosaic, variant, setting.work) as drawn:
        levels = [drawn.level(level) for level in LEVELS]
        seams = [_seams(ground, variant, drawn, k, level) for k, level in enumerate(levels)]
        # Embedding all tiles again costs as much as half of drawing them.
        again = variant.plain or variant.change in EMBEDDED_AGAIN
        told = _none(TOLD)
        if again:
            told = ground.told(drawn, levels[0], embedder_of(variant.bundle))
        size = drawn.bytes
    if variant.plain:
        _keep(setting, variant, levels[0])
    rows, of_fields = [], []
    for level, fields, across in zip(LEVELS, levels, seams, strict=True):
        row = key(ground, variant, level) | _facts(ground, variant, level, size)
        row |= ground.figures(level, fields) | ground.colours(level, fields) | across
        row |= told if level == 0 else _none(TOLD)
        row["grey_change"] = NAN if level else _change(setting, ground, variant, fields)
        rows.append(row | _provenance())
        if variant.plain:
            of_fields += _of_fields(ground, variant, level, fields)
    return rows, of_fields


def _seams(
    ground: Ground, variant: Variant, drawn: Drawn, level: int, fields: Sequence[Pixels]
) -> Row:
    """What windows' borders cost where networks drew, told of what a reader gets."""
    seams = ground.seams(level)
    if seams is None or not variant.plain or not _generated(variant, level):
        return _none(SEAMS)
    chosen = crossed(fields)
    places = [ground.mosaic.fields[i].region.scale_down(1 << level) for i in chosen]
    return dict(seams.figures([fields[i] for i in chosen], drawn.moved(level, places)))


def _generated(variant: Variant, level: int) -> bool:
    anchor = load_bundle(variant.bundle).anchor(variant.preset)
    return anchor is None or level < anchor.level


def _facts(ground: Ground, variant: Variant, level: int, size: int) -> Row:
    return {
        "default": int(variant.plain),
        "generated": int(_generated(variant, level)),
        "files": len({f.file for f in ground.mosaic.fields}),
        "fields": len(ground.mosaic.fields),
        "patches": int(ground.mosaic.tissue.sum()),
        "bpp_tissue": 8 * size / ground.mosaic.tissue_pixels,
    }


def _of_fields(ground: Ground, variant: Variant, level: int, drawn: Sequence[Pixels]) -> list[Row]:
    found = ground.of_fields(level, drawn)
    names = [f.name for f in ground.mosaic.fields]
    own = key(ground, variant, level)
    return [own | {"field": n} | dict(r) for n, r in zip(names, found, strict=True)]


def compared_with(variant: Variant) -> Variant | None:
    """What must have been drawn before a variant; nothing before what a reader gets."""
    return None if variant.plain else Variant(variant.bundle, variant.preset)


def _none(names: Sequence[str]) -> Row:
    return dict.fromkeys(names, NAN)


def _change(setting: Setting, ground: Ground, variant: Variant, level_0: Sequence[Pixels]) -> float:
    """How far level 0 is from what a reader of the store gets."""
    return (
        NAN
        if variant.plain
        else grey_change(ground.mosaic, level_0, _plain_level_0(setting, ground, variant))
    )


def _place(setting: Setting, variant: Variant) -> Path:
    weights = load_bundle(variant.bundle).fingerprint[:12]
    return setting.work / f"{weights} {variant.preset}.npz"


def _keep(setting: Setting, variant: Variant, level_0: Sequence[Pixels]) -> None:
    path = _place(setting, variant)
    part = path.with_suffix(".part.npz")
    np.savez(part, *level_0)
    part.rename(path)


def _plain_level_0(setting: Setting, ground: Ground, variant: Variant) -> list[Pixels]:
    path = _place(setting, variant)
    if not path.exists():
        plain = Variant(variant.bundle, variant.preset)  # whose rows stand since another run
        with drawing(ground.mosaic, plain, setting.work) as drawn:
            _keep(setting, plain, drawn.level(0))
    with np.load(path) as saved:
        return [saved[name] for name in saved.files]


def _provenance() -> Row:
    """Machine, command, versions, commit and date, as in all benchmarks' rows."""
    whole = asdict(Provenance("decoder", "", "", "", 0.0, ""))
    return {k: whole[k] for k in ("machine", "command", "versions", "commit", "date")}
