"""One HTML file that needs nothing else: the curve, tables, and tiles side by side."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

from wsicodec.bench.coverage import coverage
from wsicodec.bench.curves import judges
from wsicodec.bench.plots import plot, plot_others
from wsicodec.bench.rungs import climb, told
from wsicodec.bench.rungs_table import rungs
from wsicodec.bench.sections import all_rows, at_equal_rate, differences, legend, presets
from wsicodec.bench.table import Row, newest, outside_of, read
from wsicodec.bench.tiles import compared
from wsicodec.config import NOTICE
from wsicodec.errors import ConfigError

PAGE = Path(__file__).with_name("report_page.html")
OF_ONE_RUN = ("group", "fields_digest", "judges")


def write_report(out: Path) -> Path:
    """Figures and `<name>.html` beside the CSV `out`, of its newest group, judges and bundle.

    Raises ConfigError where the CSV has no rows.
    """
    rows = last_run(read(out))
    stem = out.with_suffix("")
    outside = [r for r in read(outside_of(out)) if all(r[k] == rows[-1][k] for k in OF_ONE_RUN)]
    names = judges(rows)
    figures = [path for name in names for path in plot(rows, name, stem)]
    others = [path for name in names for path in plot_others(rows, name, stem)]
    tiles = compared(rows, names[0], stem.with_name(f"{stem.name}_tiles"))
    page = Template(PAGE.read_text("utf-8")).substitute(
        title=html.escape(f"Rate against Fréchet distance: {rows[-1]['group']}"),
        summary=_summary(rows),
        warnings=_warnings(names, rows),
        figures="".join(_figure(p) for p in figures if p.suffix == ".svg"),
        others="".join(_figure(p) for p in others if p.suffix == ".svg"),
        rungs="".join(rungs(rows, name) for name in names),
        equal="".join(at_equal_rate(rows, name, level) for name in names for level in (0, 1)),
        differences="".join(differences(rows, name) for name in names),
        presets=presets(rows, names),
        tiles=_controls([one["name"] for one in tiles]) if tiles else "<p>No tiles were kept.</p>",
        coverage=coverage(rows, outside),
        legend=legend(names),
        all=all_rows(rows, names),
        data=json.dumps(tiles).replace("</", "<\\/"),
    )
    report = stem.with_suffix(".html")
    report.write_text(page, "utf-8")
    return report


def standing(out: Path) -> str:
    """Rungs and guards of the CSV `out` for a terminal, by every judge; empty where none are told.

    Of the rows that the report is of.
    """
    rows = read(out)
    if not rows:
        return ""
    kept = last_run(rows)
    ladders = {name: climb(kept, name) for name in judges(kept)}
    return "\n".join(f"{name}: {told(one)}" for name, one in ladders.items() if one is not None)


def last_run(rows: Sequence[Row]) -> list[Row]:
    """Rows of the group, fields and judges that the last row has, and of the newest bundle."""
    if not rows:
        raise ConfigError("expected rows to report, got none; run the benchmark first")
    same = [row for row in rows if all(row[k] == rows[-1][k] for k in OF_ONE_RUN)]
    weights = [row["weights"] for row in same if row["weights"]]
    return newest(same, weights[-1] if weights else "")


def _summary(rows: Sequence[Row]) -> str:
    row = rows[-1]
    area = int(row["patches"]) * 0.128**2
    weights = {r["weights"] for r in rows} - {""}
    bundle = f" Drawn by the bundle {', '.join(sorted(weights))}…" if weights else ""
    machines = "; ".join(sorted({r["machine"] for r in rows}))
    commits = ", ".join(sorted({r["commit"] for r in rows}))
    dates = sorted({r["date"] for r in rows})
    text = (
        f"{row['files']} files, {row['patches']} tissue patches of 256 px at 20x ({area:.1f} mm²). "
        f"{len(rows)} rows.{bundle} Commit {commits}; {dates[0]} to {dates[-1]}; {machines}; "
        f"{row['versions']}. {NOTICE}"
    )
    return f"<p>{html.escape(text)}</p>"


def _warnings(names: Sequence[str], rows: Sequence[Row]) -> str:
    told = []
    if marked := [n for n in names if n.endswith("_conditions")]:
        told.append(
            f"{', '.join(marked)}: these features conditioned the decoder. A distance in them is "
            "small by construction and says nothing about realism."
        )
    if int(rows[-1]["patches"]) < 512:
        told.append(
            f"{rows[-1]['patches']} patches are few for a Fréchet distance: compare codecs on this "
            "page, not with figures of another set."
        )
    if not any(row["weights"] for row in rows):
        told.append("Rivals only: no row of wsicodec has been made yet.")
    return "".join(f'<p class="warning">{html.escape(text)}</p>' for text in told)


def _figure(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    name = html.escape(path.stem)
    return f'<img class="figure" alt="{name}" src="data:image/svg+xml;base64,{data}">'


def _controls(rates: Sequence[str]) -> str:
    options = "".join(
        f'<option value="{i}">{html.escape(name)}</option>' for i, name in enumerate(rates)
    )
    places = "".join(
        f'<div class="tile" data-place="{i}"><div></div><div></div><span></span></div>'
        for i in range(6)
    )
    return (
        '<div class="controls">'
        f'<label>rate <select id="rate">{options}</select></label>'
        '<label>left <select id="left"></select></label>'
        '<label>right <select id="right"></select></label>'
        '<input type="range" id="divide" min="0" max="100" value="50" aria-label="divide"></div>'
        f'<p class="note" id="told"></p><div class="tiles">{places}</div>'
    )
