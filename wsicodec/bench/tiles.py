"""Tiles of every codec at the rates of ours, for the page that shows them side by side."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from wsicodec.bench.curves import Point, at_rate, points
from wsicodec.bench.strips import strip_name, truth_name
from wsicodec.bench.table import Row

QUALITY = 80  # of the page's WebP
RATES = (0.01, 0.03, 0.1)  # bits per pixel, where ours has no rows
SHOWN = ("semantic", "standard", "detail")


def targets(found: Sequence[Point]) -> list[tuple[str, float]]:
    """Names and rates that codecs are compared at: those of our presets as they are shipped."""
    ours = {p.setting: p.rate for p in found if p.codec == "wsicodec"}
    known = [(name, ours[name]) for name in SHOWN if name in ours]
    return known or [(f"{rate:g} bits per pixel", rate) for rate in RATES]


def compared(rows: Sequence[Row], judge: str, folder: Path) -> list[dict[str, Any]]:
    """Per rate: its name, and by codec a label and a strip of tiles as a data URI.

    Of each codec the setting of least distance at level 0 that costs no more than the rate.
    """
    found = points(rows, judge, 0)
    original = folder / truth_name(rows[-1]["fields_digest"])
    made = []
    for name, rate in targets(found):
        codecs: dict[str, dict[str, str]] = {}
        if original.exists():
            codecs["original"] = {"label": "the original", "image": _uri(original)}
        for codec in sorted({p.codec for p in found}):
            point = _shown(found, codec, name, rate)
            path = None if point is None else _file(rows, point, folder)
            if point is not None and path is not None and path.exists():
                label = f"{codec} {point.setting}, {point.rate:.4f} bpp, distance {point.value:.0f}"
                codecs[codec] = {"label": label, "image": _uri(path)}
        made.append({"name": f"{name} ({rate:.4f} bpp)", "codecs": codecs})
    return [one for one in made if len(one["codecs"]) > 1]


def _shown(found: Sequence[Point], codec: str, name: str, rate: float) -> Point | None:
    own = [p for p in found if p.codec == codec]
    shipped = [p for p in own if codec == "wsicodec" and p.setting == name]
    return shipped[0] if shipped else at_rate(own, rate)


def _file(rows: Sequence[Row], point: Point, folder: Path) -> Path | None:
    named = (r for r in rows if (r["codec"], r["setting"]) == (point.codec, point.setting))
    row = next(named, None)
    return None if row is None else folder / strip_name(row)


def _uri(path: Path) -> str:
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").save(buffer, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
