"""The best, the median and the worst field: the enlarged anchor, what is drawn, and the truth."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.decoder_variants import ENLARGED, SHIPPED, Variant, drawing
from wsicodec.bench.fields import Mosaic
from wsicodec.bench.judging import centre
from wsicodec.bench.output import Pixels
from wsicodec.resample import box_reduce

SIDE = 384  # pixels of a panel
GAP = 8
MOST = 250_000  # bytes of a sheet
LEVELS = (0, 1)


def chosen(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Names of the best, median and worst field by the mean rank of their own distances.

    rows: of fields at the generated levels, with `field`, `level` and `own_distance`. Ranks are
    taken within a level, whose distances have a scale of their own.
    """
    ranks: dict[str, float] = {}
    for level in dict.fromkeys(row["level"] for row in rows):
        own = [row for row in rows if row["level"] == level]
        for rank, row in enumerate(sorted(own, key=lambda r: float(r["own_distance"]))):
            ranks[row["field"]] = ranks.get(row["field"], 0) + rank
    order = sorted(ranks, key=lambda name: (ranks[name], name))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def write_sheets(
    mosaic: Mosaic, bundle: str, fields: Mapping[str, str], stem: Path, work: Path
) -> list[Path]:
    """Write `<stem>_<name>.jpg` of every named field: a row a level, enlarged, drawn and true."""
    wanted = [f for f in mosaic.fields if f.name in fields.values()]
    some = replace(mosaic, fields=tuple(wanted))  # where the others' pixels need not be drawn
    pictures = []
    for change in (ENLARGED, SHIPPED):
        with drawing(some, Variant(bundle, "standard", change=change), work) as drawn:
            pictures.append([drawn.level(level) for level in LEVELS])
    pictures.append([[box_reduce(f.rgb, 1 << level) for f in wanted] for level in LEVELS])
    made = []
    for name, field in fields.items():
        at = [f.name for f in wanted].index(field)
        whole = sheet([[source[level][at] for source in pictures] for level in LEVELS])
        made.append(stem.with_name(f"{stem.name}_{name}.jpg"))
        made[-1].write_bytes(small_jpeg(whole, MOST))
    return made


def sheet(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """The middles of pictures in rows on white; a smaller picture leaves white around it."""
    height, width = (len(n) * (SIDE + GAP) - GAP for n in (rows, rows[0]))
    out = np.full((height, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, rgb in enumerate(row):
            middle = centre(rgb, SIDE)
            y, x = ((SIDE - n) // 2 + k * (SIDE + GAP) for n, k in zip(middle.shape, (i, j)))  # noqa: B905
            out[y : y + middle.shape[0], x : x + middle.shape[1]] = middle
    return out


def small_jpeg(rgb: Pixels, most: int) -> bytes:
    """A JPEG of the highest quality, of 90 downwards, that takes at most `most` bytes."""
    for quality in range(90, 20, -5):
        buffer = io.BytesIO()
        Image.fromarray(rgb).save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= most:
            break
    return buffer.getvalue()
