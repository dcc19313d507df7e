"""A run from a slide to a page, its seams cut short: one small field, few settings."""

from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from wsicodec.bench import command, run
from wsicodec.bench.fields import Field, cut
from wsicodec.bench.jobs import Job, plan
from wsicodec.bench.options import Options
from wsicodec.bench.ours import Drawing
from wsicodec.bench.panel import judges
from wsicodec.bench.report import write_report
from wsicodec.bench.table import read
from wsicodec.errors import ConfigError
from wsicodec.models.bundle import load_bundle

pytestmark = pytest.mark.torch
VOID = {"meta", "br", "img", "input", "link"}


@pytest.fixture
def options(drawn_slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    whole = cut(drawn_slide, None, 4)[0]
    halves = [
        Field(name, f"{name}.tif", np.ascontiguousarray(whole.rgb[y : y + 512, :512]))
        for name, y in (("a", 0), ("b", 512))
    ]
    monkeypatch.setattr(run, "gather", lambda *_, **__: halves)
    return Options((drawn_slide,), tmp_path / "rates.csv", quick=True, workers=1)


class Balance(HTMLParser):
    """What stays open, and the attributes of what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _told(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    timed = ("encode_seconds", "decode_seconds")
    told = [{k: v for k, v in row.items() if k not in timed} for row in rows]
    return sorted(told, key=lambda row: (row["codec"], row["setting"], row["level"]))


@pytest.mark.slow
def test_from_a_slide_to_a_page(options: Options) -> None:
    """Ours and a rival; what stands is not made again; one page that needs no other file."""
    told: list[tuple[int, int, str]] = []
    some = replace(options, codecs=("anchor", "jpeg"), presets=("standard",))
    page = command.bench(some, lambda *step: told.append(step))
    rows = read(options.out)
    assert {r["codec"] for r in rows} == {"anchor", "jpeg"}
    assert {r["level"] for r in rows} == {"0", "1"}
    assert {r["weights"] for r in rows if r["codec"] == "jpeg"} == {""}
    assert told[-1][0] == told[-1][1] == len(told)
    files = read(options.out.with_name("rates_files.csv"))
    assert {r["file"] for r in files} == {"a.tif", "b.tif"}
    assert all(r["commit"] and r["machine"] and r["versions"] for r in [*rows, *files])

    command.bench(some)
    assert read(options.out) == rows, "rows that stand are not made again"

    parser = Balance()
    text = page.read_text("utf-8")
    parser.feed(text)
    assert parser.open == []
    linked = [a.get("src") or a.get("href") or "" for _, a in parser.seen]
    assert all(link.startswith("data:") for link in linked if link), "needs no other file"
    ids = {a["id"] for _, a in parser.seen if a.get("id")}
    assert {"rate", "left", "right", "divide", "told"} <= ids
    assert "$" not in text.split("<script>")[0]
    assert "<td>jpeg behind /4</td>" in text, "what was run"
    assert page.with_name("rates_held_out.svg").exists()
    assert page.with_name("rates_held_out.png").exists()


@pytest.mark.slow
def test_in_any_processes_the_same_figures(options: Options) -> None:
    some = replace(options, codecs=("anchor", "jpeg"), presets=("standard",))
    again = replace(some, out=options.out.with_name("again.csv"), workers=2)
    assert not run.run(some)
    assert not run.run(again)
    assert _told(read(again.out)) == _told(read(some.out))


def test_what_fails_is_told_after_the_rest_is_done(options: Options) -> None:
    """CompressAI is not installed where tests run, and no weights are at hand."""
    some = replace(options, codecs=("jpeg",), compressai=("nothing",))
    with pytest.raises(ConfigError, match=r"1 settings failed.*MODEL:QUALITY:FILE"):
        command.bench(some)
    assert {r["codec"] for r in read(options.out)} == {"jpeg"}
    assert options.out.with_suffix(".html").exists()


def test_the_conditioning_embedder_cannot_judge_alone(options: Options) -> None:
    alone = replace(options, held_out=False, codecs=("jpeg",), conditioning=True)
    with pytest.raises(ConfigError, match="did not condition"):
        run.run(alone)


def test_the_conditioning_embedder_is_marked(options: Options, rng: np.random.Generator) -> None:
    found = judges(replace(options, conditioning=True), load_bundle())
    assert [(e.name, e.conditions) for e in found] == [
        ("held_out", False), ("embedder_conditions", True),
    ]  # fmt: skip
    squares = rng.integers(0, 256, (2, 128, 128, 3), np.uint8)
    assert found[1](squares).shape == (2, load_bundle().embedding_width)


def test_the_plan_names_presets_steps_quantisers_and_seeds() -> None:
    bundle = load_bundle()
    jobs = plan(Options((), Path("x.csv"), codecs=("wsicodec",)), bundle)
    settings = [Drawing.parse(job.setting, job.seed) for job in jobs]
    assert len(set(jobs)) == len(jobs)
    assert {d.preset for d in settings} == {"semantic", "standard", "detail", "measured"}
    assert {d.seed for d in settings if d.setting == "standard"} == {0, 1, 2}
    assert {d.steps for d in settings} == {0, 1, 2, 4} - {bundle.steps}
    assert {d.quantizer for d in settings} == {0.5, 1, 2, 4, 8}
    varied = [d for d in settings if d.steps or d.quantizer != 1]
    assert {(d.preset, d.seed) for d in varied} == {("standard", 0)}, "where no sweep is asked for"
    assert [Drawing.parse(d.setting, d.seed) for d in settings] == settings
    assert Job("wsicodec", "standard", 1) in jobs


def test_a_sweep_goes_to_the_presets_it_names() -> None:
    some = Options((), Path("x.csv"), codecs=("wsicodec",), sweep=("semantic", "measured"), seeds=1)
    settings = [Drawing.parse(job.setting) for job in plan(some, load_bundle())]
    assert {d.preset for d in settings if d.quantizer != 1} == {"semantic"}, "no network draws it"


def test_every_rival_runs_alone_and_behind_every_downsample() -> None:
    rivals = ("avif", "jpegxl", "jpeg2000", "webp", "jpeg")
    jobs = plan(Options((), Path("x.csv"), codecs=rivals), load_bundle())
    for rival in rivals:
        factors = [job.setting.partition(" ")[2] for job in jobs if job.codec == rival]
        assert {f: factors.count(f) for f in set(factors)} == {
            "": 3, "/2": 4, "/4": 5, "/8": 4, "/16": 2,
        }  # fmt: skip


def test_a_memory_needs_training_tiles() -> None:
    with pytest.raises(ConfigError, match="--train"):
        plan(Options((), Path("x.csv"), codecs=("memory",)), load_bundle())


def test_an_empty_table_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run the benchmark"):
        write_report(tmp_path / "none.csv")
