"""What a run tried: every codec's settings, those judged and those whose rate lay outside."""

from collections.abc import Sequence

from wsicodec.bench.ours import Drawing
from wsicodec.bench.sections import table
from wsicodec.bench.table import Row

NOTE = (
    '<p class="note">A rival\'s settings are qualities of AVIF, WebP, JPEG and HEIF, Butteraugli '
    "distances of JPEG XL, and decibels of JPEG 2000.</p>"
)


def coverage(rows: Sequence[Row], outside: Sequence[Row]) -> str:
    """A table with a line for each codec, and for a rival one each alone and behind a downsample.

    outside: rows of rivals that were coded but not judged.
    """
    judged = _settings(rows)
    left = _settings(outside)
    body = [
        [name, _told(judged.get(name, {})), _told(left.get(name, {}))]
        for name in sorted({*judged, *left}, key=lambda n: (not n.startswith("wsicodec"), n))
    ]
    head = ["", "settings judged", "coded, but too cheap or too dear to be judged"]
    return table(head, body, kind="wide words") + NOTE


def _settings(rows: Sequence[Row]) -> dict[str, dict[str, set[str]]]:
    """Line to setting to seeds."""
    found: dict[str, dict[str, set[str]]] = {}
    for row in rows:
        line, setting = _line(row["codec"], row["setting"])
        found.setdefault(line, {}).setdefault(setting, set()).add(row["seed"])
    return found


def _line(codec: str, setting: str) -> tuple[str, str]:
    if codec == "wsicodec":
        drawing = Drawing.parse(setting)
        varied = setting.partition(", ")[2]
        return f"wsicodec {drawing.preset}", varied or "as shipped"
    quality, _, factor = setting.partition(" /")
    if factor:
        return f"{codec} behind /{factor}", quality
    return codec, setting


def _told(settings: dict[str, set[str]]) -> str:
    return "; ".join(
        name + (f" (noise of {len(seeds)} seeds)" if len(seeds) > 1 else "")
        for name, seeds in sorted(settings.items(), key=lambda item: _order(item[0]))
    )


def _order(setting: str) -> tuple[bool, float, str]:
    try:
        return False, float(setting), setting
    except ValueError:
        return setting != "as shipped", 0.0, setting
