"""The tables of `benchmarks.decoder` as Markdown, for people and for the README."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.decoder_variants import ENLARGED, EXCHANGED, SHIPPED
from wsicodec.bench.rungs import ENERGY, KURTOSIS
from wsicodec.bench.table import Row, number
from wsicodec.metrics import pictures

OCTAVES = range(pictures.OCTAVES)


def write_tables(rows: Sequence[Row], seconds: Sequence[Row], shipped: str, path: Path) -> Path:
    """All tables of one run into a file.

    Args:
        rows: of variants and levels.
        seconds: of the same bundles.
        shipped: the first digits of the fingerprint whose parts are taken away.
        path: the file.
    """
    ours = [r for r in rows if r["weights"] == shipped]
    parts = [
        ("Steps, quality and time", steps_table(rows, seconds)),
        ("Closeness, as shipped", closeness(ours)),
        ("What the embeddings do, level 0", embeddings(ours)),
        ("Seams", seams(ours)),
        ("Ablations", ablations(ours)),
    ]
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in parts)
    told = rows[-1]
    head = (
        f"{told['files']} files of val, {told['fields']} fields, {told['patches']} tissue patches "
        f"of 256 px; {told['machine']}; `{told['command']}`. Fréchet distances are of held-out "
        "features, squared, with 95 % intervals over files. Energies and kurtoses are those of the "
        "three finest octaves over the original's, finest first, medians over fields; those of "
        "chroma are of red and blue over green. A level "
        f"keeps to the guard if all energies are within {ENERGY[0]:g} to {ENERGY[1]:g} and all "
        f"kurtoses within {KURTOSIS[0]:g} to {KURTOSIS[1]:g}."
    )
    path.write_text(f"{head}\n\n{text}\n", "utf-8")
    return path


def steps_table(rows: Sequence[Row], seconds: Sequence[Row]) -> str:
    """Quality of every generated level by steps, and seconds of a tile on one core."""
    found = [r for r in rows if r["seed"] == "0" and _drawn(r) and r["change"] == SHIPPED]
    anchors = [r for r in rows if r["change"] == ENLARGED and _drawn(r)]
    lines = []
    for row in [*anchors, *sorted(found, key=_order)]:
        steps = "-" if row["change"] == ENLARGED else row["steps"]
        time = "-" if row["change"] == ENLARGED else _time(row, seconds)
        lines.append([*_subject(row), row["level"], steps, time, *_quality(row), _under(row, rows)])
    header = ["bundle", "preset", "level", "steps", "s a tile, one core", *QUALITY, "draws under"]
    note = (
        "\n\n*draws under*: share of the bootstrap's draws in which the distance is below the "
        "enlarged anchor's of preset standard."
    )
    return markdown(header, lines) + note


def closeness(rows: Sequence[Row]) -> str:
    """PSNR beside that of the enlarged anchor, and colours."""
    lines = []
    for row in _sorted(rows, lambda r: r["default"] == "1" or r["change"] == ENLARGED):
        what = "stored" if row["generated"] == "0" else row["change"]
        cells = [f"{number(row, k):.2f}" for k in ("psnr", "block_colour", "stain_degrees")]
        lines.append(
            [row["preset"], row["level"], what, *cells, f"{number(row, 'bpp_tissue'):.4f}"]
        )
    header = ["preset", "level", "", "PSNR, dB", "colour of 64 x 64, of 255", "stain, degrees",
              "bpp of tissue"]  # fmt: skip
    return markdown(header, lines)


def embeddings(rows: Sequence[Row]) -> str:
    """What is found again, and what changing embeddings or noise does."""
    keys = ("cosine", "cosine_told", "retrieval_100", "retrieval_100_source", "grey_change")
    lines = [
        [row["preset"], _way(row), *(_plain_number(number(row, k), 3) for k in keys)]
        for row in _sorted(rows, lambda r: r["level"] == "0")
    ]
    header = ["preset", "", "cosine, stored", "cosine, told", "found among 100",
              "among 100 of one source", "grey levels changed"]  # fmt: skip
    return markdown(header, lines)


def seams(rows: Sequence[Row]) -> str:
    """Distances over corners of windows and inside them, and steps across their borders."""
    lines = []
    for row in _sorted(rows, lambda r: not math.isnan(number(r, "fd_inside"))):
        told = [f"{number(row, k):.1f}" for k in ("fd_inside", "fd_corners")]
        told += [_interval(row, k, 3) for k in ("corners_over_inside", "border_over_inside")]
        told += [_plain_number(number(row, k), 3) for k in ("seam", "seam_true")]
        lines.append([row["preset"], row["level"], _way(row), *told])
    header = ["preset", "level", "", "inside", "over corners", "over corners / inside",
              "step at borders / inside", "border over all other lines",
              "the original's"]  # fmt: skip
    return markdown(header, lines)


def ablations(rows: Sequence[Row]) -> str:
    """Every change at its generated levels."""
    lines = [
        [row["preset"], row["level"], _way(row), *_quality(row)]
        for row in _sorted(rows, lambda r: _drawn(r) and r["change"] != EXCHANGED)
    ]
    return markdown(["preset", "level", "", *QUALITY], lines)


def guarded(row: Row) -> bool:
    """Whether a level keeps to the guard of octaves."""
    within = [
        low <= number(row, f"{name}_{i}") <= high
        for name, (low, high) in (("energy", ENERGY), ("kurtosis", KURTOSIS))
        for i in OCTAVES
    ]
    return all(within)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


QUALITY = ("Fréchet distance", "PSNR, dB", "energies", "kurtoses", "guard", "chroma")


def _quality(row: Row) -> list[str]:
    energy, kurtosis, chroma = (
        " ".join(f"{number(row, f'{name}_{i}'):.2f}" for i in OCTAVES)
        for name in ("energy", "kurtosis", "chroma")
    )
    distance = _interval(row, "fd_held_out", 1)
    told = "kept" if guarded(row) else "broken"
    return [distance, f"{number(row, 'psnr'):.2f}", energy, kurtosis, told, chroma]


def _interval(row: Row, name: str, digits: int) -> str:
    value, low, high = (number(row, name + k) for k in ("", "_low", "_high"))
    bounds = "" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{value:.{digits}f}{bounds}"


def _plain_number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _under(row: Row, rows: Sequence[Row]) -> str:
    """Share of draws in which a row's distance is below the enlarged anchor's."""
    same = [
        r for r in rows
        if (r["change"], r["preset"], r["level"]) == (ENLARGED, "standard", row["level"])
    ]  # fmt: skip
    draws = [np.array(r["fd_held_out_draws"].split(), float) for r in (row, *same[:1])]
    if row["change"] == ENLARGED or len(draws) < 2 or len(draws[0]) != len(draws[1]):
        return "-"
    return f"{float((draws[0] < draws[1]).mean()):.2f}"


def _time(row: Row, seconds: Sequence[Row]) -> str:
    subject = f"{row['label']} {row['weights']}"
    for one in seconds:
        if (one["subject"], one["setting"]) == (subject, f"{row['steps']} steps, one core"):
            middle, low, high = (number(one, k) for k in ("value", "low", "high"))
            return f"{middle:.3f} ({low:.3f} to {high:.3f})"
    return "-"


def _drawn(row: Row) -> bool:
    return row["generated"] == "1"


def _subject(row: Row) -> list[str]:
    if row["change"] == ENLARGED:
        return [ENLARGED, row["preset"]]
    return [f"{row['label']} {row['weights'][:6]}", row["preset"]]


def _way(row: Row) -> str:
    if row["change"] == ENLARGED:
        return ENLARGED
    seed = "" if row["seed"] == "0" else ", other noise"
    return f"{row['change']}, {row['steps']} steps{seed}"


def _order(row: Row) -> tuple[object, ...]:
    return row["weights"], row["preset"], int(row["level"]), int(row["steps"])


def _sorted(rows: Sequence[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    kept = [row for row in rows if wanted(row)]
    return sorted(kept, key=lambda r: (r["preset"], int(r["level"])))
