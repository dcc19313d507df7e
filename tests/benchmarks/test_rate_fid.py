"""The parts of the rate benchmark that its figures rest on."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("benchmarks.fields", exc_type=ImportError)

from benchmarks.fields import Field, cut, lay_out
from benchmarks.judging import Judge
from benchmarks.plot_rate_fid import frontier
from benchmarks.rivals import RIVALS, ladder
from wsicodec.errors import ConfigError
from wsicodec.metrics.degrade import blur
from wsicodec.metrics.features import Extractor


def _field(name: str, height: int, width: int, rng: np.random.Generator) -> Field:
    return Field(name, name, rng.integers(0, 256, (height, width, 3), np.uint8))


def test_fields_lie_apart_and_where_they_are_said_to(rng: np.random.Generator) -> None:
    sizes = [(512, 512), (1024, 512), (512, 1024), (1024, 1024), (512, 512)]
    mosaic = lay_out("all", [_field(str(i), *size, rng) for i, size in enumerate(sizes)])
    for field in mosaic.fields:
        assert np.array_equal(mosaic.rgb[field.region.slices()], field.rgb)
        assert field.y % 512 == field.x % 512 == 0
    for i, one in enumerate(mosaic.fields):
        for other in mosaic.fields[i + 1 :]:
            assert one.region.grow(511).intersect(other.region).empty
    painted = sum(f.region.shape[0] * f.region.shape[1] for f in mosaic.fields)
    assert mosaic.pixels == painted
    assert (mosaic.rgb == 255).all(2).sum() >= mosaic.rgb.shape[0] * mosaic.rgb.shape[1] - painted


def test_no_fields_are_an_error() -> None:
    with pytest.raises(ConfigError, match="--mpp"):
        lay_out("none", [])


def test_fields_of_a_slide_hold_tissue(drawn_slide: Path) -> None:
    fields = cut(drawn_slide, None, 4)
    assert fields
    assert all(f.rgb.shape[0] % 512 == 0 and f.rgb.shape[1] % 512 == 0 for f in fields)
    assert all(f.rgb.std() > 5 for f in fields)
    assert cut(drawn_slide, 4.0, 4) == []


def test_a_better_setting_costs_more_and_errs_less(drawn_slide: Path) -> None:
    rgb = cut(drawn_slide, None, 1)[0].rgb[:512, :512]
    seen: dict[tuple[str, int], list[tuple[int, float]]] = {}
    for name, _, code in ladder(rgb, tuple(RIVALS), (1, 4), 2):
        coded = code()
        error = float(np.square(coded.level(0, (512, 512)).astype(float) - rgb).mean())
        assert coded.level(1, (256, 256)).shape == (256, 256, 3)
        seen.setdefault((name, coded.factor), []).append((coded.bytes, error))
    assert len(seen) == 10
    for points in seen.values():
        (cheap, worse), (dear, better) = sorted(points)
        assert cheap < dear
        assert better < worse


def test_the_frontier_leaves_out_what_is_beaten() -> None:
    points = [(1.0, 5.0), (2.0, 6.0), (3.0, 2.0), (0.5, 9.0), (4.0, 2.5)]
    assert frontier(points) == [(0.5, 9.0), (1.0, 5.0), (3.0, 2.0)]


def test_a_judge_tells_blur_from_the_truth(drawn_slide: Path) -> None:
    means = Extractor("grey", lambda p: np.stack([p.mean((1, 2, 3)), p.std((1, 2, 3))], 1))
    judge = Judge([means], means, draws=5, similarity=False)
    whole = cut(drawn_slide, None, 4)[0].rgb
    fields = [whole[:512, :512], whole[:512, 512:1024]]
    tissue = np.ones(8, bool)
    truth = judge.truth(0, fields, ["a", "b"], tissue)
    same = judge.measure(truth, fields)
    worse = judge.measure(truth, [blur(f, 3) for f in fields])
    assert same["fd_grey"] == pytest.approx(0, abs=1e-9)
    assert same["energy_0"] == 1
    assert worse["fd_grey"] > 0.1
    assert worse["fd_grey_low"] <= worse["fd_grey"] <= worse["fd_grey_high"]
    assert worse["energy_0"] < 0.1
    assert worse["psnr"] < same["psnr"]
