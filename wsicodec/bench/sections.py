"""The tables of the report."""

import html
import math
from collections.abc import Iterable, Sequence

from wsicodec.bench.curves import Difference, Point, at_rate, bd_rate, frontier, points
from wsicodec.bench.plots import MOST
from wsicodec.bench.table import Row, number
from wsicodec.bench.tiles import targets

KEPT = {
    "bpp_tissue": "bits per pixel of tissue",
    "bpp_fields": "bits per pixel of the fields",
    "psnr": "PSNR, dB",
    "ms_ssim": "MS-SSIM",
    "energy_0": "energy, finest octave",
    "energy_1": "energy, second",
    "kurtosis_0": "kurtosis, finest",
    "block_colour": "colour of blocks off by",
    "stain_degrees": "stain off by, degrees",
    "seam": "seam score",
    "seam_true": "seam score of the original",
    "cosine": "cosine, embedded again",
    "retrieval": "found among 32",
    "encode_seconds": "encode, s",
    "decode_seconds": "decode, s",
}
LEGEND = """
<ul>
<li>A codec's bytes are all that stand on disk: headers, tables, masks, metadata, manifest. The
bundle's weights are not counted; they are shared by all slides.</li>
<li>Rates are over level-0 pixels of patches that hold tissue. Rivals code the fields edge to edge
in one file, so they pay for no glass and for one header; wsicodec codes them on white, as a
slide.</li>
<li>A rival behind <code>/4</code> is reduced by 4 with a box filter, coded, and enlarged by
Lanczos' filter. What costs less than 0.004 or more than 0.25 bits per pixel is not judged.</li>
<li>Distances are squared Fréchet distances of features of 128 px squares of tissue (64 µm; half as
many pixels at level 1), two of each patch. Intervals are 95 %, files resampled; draws are paired
between codecs.</li>
<li>Energy and kurtosis of octaves are drawn over true: 1 is right. The seam score is the step
across borders of 256 px over that elsewhere. A patch is <em>found</em> if, embedded again, it is
nearest to its own original among 32.</li>
<li><em>anchor</em> is the store's coarse picture alone, its own bytes, enlarged.
<em>autoencoder</em> takes each level from the original through the latents and back: it has no
rate. <em>memory</em> replaces each patch by the nearest training patch: perfect texture, wrong
tissue.</li>
<li>Judges: """
HELD_OUT = (
    " The held-out encoder never helped to train a decoder. It forgives detail that has the right "
    "spectrum but no structure (with random phases, a third of a slight blur's distance); such "
    "detail fails the guards of energy and kurtosis, without which no rung stands."
)


def legend(names: Sequence[str]) -> str:
    """How to read the page."""
    told = [
        f"{n} (marked: conditioned the decoder)" if n.endswith("_conditions") else n for n in names
    ]
    known = HELD_OUT if "held_out" in names else ""
    return LEGEND + html.escape(", ".join(told)) + f".{known}</li></ul>"


def table(
    head: Sequence[str], body: Iterable[Sequence[str]], ours: str = "wsicodec", kind: str = "wide"
) -> str:
    """An HTML table; rows that begin with `ours` stand out, `kind` is of the page's style sheet."""
    lines = ["<tr>" + "".join(f"<th>{html.escape(h)}</th>" for h in head) + "</tr>"]
    for row in body:
        mark = ' class="ours"' if ours and row[0].startswith(ours) else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>")
    return f'<div class="{kind}"><table>{"".join(lines)}</table></div>'


def show(value: float) -> str:
    """A figure in four digits; a dash where there is none."""
    return "–" if not math.isfinite(value) else f"{value:.4g}"


def _told(point: Point | None) -> str:
    if point is None:
        return "–"
    interval = "" if len(point.draws) < 2 else f" ({point.low:.1f} to {point.high:.1f})"
    return f"{point.value:.1f}{interval} at {point.rate:.4f}"


def at_equal_rate(rows: Sequence[Row], judge: str, level: int) -> str:
    """Each codec's least distance at no more than the rate of each of our presets, and 10 %."""
    found = points(rows, judge, level)
    aims = targets(points(rows, judge, 0))
    body = []
    for codec in sorted({p.codec for p in found} - {"autoencoder"}, key=_order):
        own = [p for p in found if p.codec == codec]
        best = [at_rate(own, rate) for _, rate in aims]
        body.append([codec, *(_told(p) for p in best)])
    head = [f"{judge}, level {level}", *(f"{name}, {rate:.4f} bpp" for name, rate in aims)]
    return table(head, body)


def _order(codec: str) -> tuple[bool, str]:
    return codec != "wsicodec", codec


def differences(rows: Sequence[Row], judge: str) -> str:
    """Our rate over each rival's at equal distance, with the range in which both have one."""
    body = []
    for level in (0, 1):
        found = [p for p in points(rows, judge, level) if p.rate <= MOST]
        ours = [p for p in found if p.codec == "wsicodec"]
        for codec in sorted({p.codec for p in found} - {"wsicodec", "autoencoder", "memory"}):
            theirs = [p for p in found if p.codec == codec]
            gap = bd_rate(ours, theirs)
            told = [_apart(ours, theirs), *"––––"] if gap is None else _difference(gap)
            body.append([f"{codec}, level {level}", *told])
    head = [judge, "our rate, %", "95 % over files", "distances", "share", "points"]
    note = (
        '<p class="note">Below zero wsicodec needs fewer bytes for the same distance. '
        "<em>distances</em> is the range that both reach, <em>share</em> that range over what "
        "either covers (in logarithms): a difference over a small share says little.</p>"
    )
    return table(head, body) + note


def _apart(ours: Sequence[Point], theirs: Sequence[Point]) -> str:
    """Why two frontiers have no mean difference."""
    a, b = ([p.value for p in frontier(line)] for line in (ours, theirs))
    if a and b and max(a) < min(b):
        return "ours is nearer at every rate"
    if a and b and max(b) < min(a):
        return "theirs is nearer at every rate"
    return "too few settings to tell"


def _difference(gap: Difference) -> list[str]:
    return [
        f"{gap.percent:+.0f}",
        f"{gap.low:+.0f} to {gap.high:+.0f}",
        f"{gap.best:.0f} to {gap.worst:.0f}",
        f"{gap.share:.0%}",
        f"{gap.counts[0]}, {gap.counts[1]}",
    ]


def presets(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Every measure of our presets as they are shipped, the mean over seeds, a table a level."""
    chosen = [r for r in rows if r["codec"] in ("wsicodec", "autoencoder", "anchor", "memory")]
    chosen.sort(key=_place)
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in chosen:
        if "," not in row["setting"]:
            of_level = groups.setdefault(row["level"], {})
            of_level.setdefault(f"{row['codec']} {row['setting']}", []).append(row)
    if not groups:
        return "<p>None has been measured yet.</p>"
    return "".join(_measures(level, groups[level], names) for level in sorted(groups))


def _measures(level: str, groups: dict[str, list[Row]], names: Sequence[str]) -> str:
    columns = KEPT | {
        f"{kind}_{n}": f"{what} {n}"
        for n in names
        for kind, what in (
            ("fd", "Fréchet"),
            ("kd", "kernel"),
            ("cmmd", "CMMD"),
            ("precision", "precision"),
            ("recall", "recall"),
        )
    }
    body = [[title, *(_mean(groups[g], c) for g in groups)] for c, title in columns.items()]
    return table([f"level {level}", *groups], body, ours="")


def _place(row: Row) -> tuple[bool, str, float]:
    """Ours first, cheapest first."""
    return row["codec"] != "wsicodec", row["codec"], number(row, "bpp_tissue")


def _mean(rows: Sequence[Row], column: str) -> str:
    values = [number(row, column) for row in rows]
    spread = max(values) - min(values)
    told = show(sum(values) / len(values))
    return f"{told} ± {spread / 2:.2g}" if spread > 0 else told


def all_rows(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Every row with its main figures."""
    columns = ["bpp_tissue", "bytes", *(f"fd_{n}" for n in names), "psnr", "ms_ssim"]
    columns += ["energy_0", "retrieval", "cosine", "encode_seconds", "decode_seconds"]
    body = [
        [
            f"{r['codec']} {r['setting']}, seed {r['seed']}, level {r['level']}",
            *(show(number(r, c)) for c in columns),
        ]
        for r in sorted(rows, key=lambda r: (r["codec"], r["level"], number(r, "bpp_tissue")))
    ]
    return table(["", *columns], body)
