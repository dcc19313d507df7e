"""What a pack holds, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.train import stages  # noqa: E402
from wsicodec.train.card import archive, packing, tissue  # noqa: E402
from wsicodec.train.data import Picture, tissue_map  # noqa: E402

pytestmark = pytest.mark.torch


def picture(name: str, side: int, stained: slice, source: str = "one") -> Picture:
    rgb = np.full((side, side, 3), 240, np.uint8)
    rgb[stained, stained] = (150, 60, 160)
    return Picture(name, source, "slide", 0.5, [rgb], tissue_map(rgb))


def test_a_pack_says_what_it_holds_but_not_where_it_was_made(runs: Any) -> None:
    index = json.loads(Path(runs.at("pack"), "pack.json").read_text())
    assert [row["source"] for row in index["pictures"]] == ["big/one"] * 3 + ["small/two"]
    assert all(len(row["coded"]) == 2 for row in index["pictures"])
    assert index["anchor_error"] < 1
    assert index["standing"]["seen"]["zoomldm"] == 1000
    assert str(runs.root) not in json.dumps(index)
    arrays = archive.load_parts(Path(runs.at("pack")), "weights")
    assert {k.split(".")[0] for k in arrays} == {"embedder", "autoencoder", "zoomldm", "tables"}


def test_packed_pixels_are_near_the_pictures(runs: Any, tissue_folder: Path) -> None:
    index = tissue.load_index(Path(runs.at("pack")))
    row = index["pictures"][0]
    packed = tissue.decode(Path(runs.at("pack"), row["file"])).astype(int)
    true = tissue.decode(tissue_folder / row["name"]).astype(int)
    assert np.abs(packed - true).mean() < 4


def test_a_pack_that_is_too_large_is_refused(runs: Any) -> None:
    small = runs.packing(folder=runs.at("small"), limit=0.45, qualities=[95, 90])
    with pytest.raises(ConfigError, match="lower `area`"):
        stages.run("pack", runs.write("small", small), threads=1)


def test_quality_falls_until_all_fits(runs: Any) -> None:
    folder = Path(runs.at("less"))
    less = runs.packing(folder=str(folder), limit=0.62, whole_embedder=False, form="jpeg")
    stages.run("pack", runs.write("less", less), threads=1)
    index = tissue.load_index(folder)
    assert index["quality"] < 95
    assert packing.size_of(folder) <= 0.62 * packing.MEBIBYTE


def test_only_packs_are_overwritten(runs: Any, tissue_folder: Path) -> None:
    other = runs.packing(folder=str(tissue_folder))
    with pytest.raises(ConfigError, match="to be a pack or absent"):
        stages.run("pack", runs.write("other", other), threads=1)


def test_large_pictures_of_a_source_share_what_small_ones_leave() -> None:
    sides = (256, 512, 1024)
    pictures = [picture(str(s), s, slice(0, s)) for s in sides]
    quotas = {p.name: q for p, q in packing._quotas(pictures, 0.6)}
    assert quotas["256"] >= 256**2
    assert quotas["512"] == pytest.approx((6e5 - 256**2) / 2)
    assert quotas["1024"] == pytest.approx(6e5 - 256**2 - 512**2)


def test_a_picture_is_cut_to_its_densest_square() -> None:
    cut = packing.trimmed(picture("a", 1024, slice(512, 832)), 330.0**2)
    assert cut.shapes == [(320, 320)]
    assert (cut.levels[0] == (150, 60, 160)).all()
    assert cut.tissue.shape == (10, 10)
    whole = packing.trimmed(picture("b", 1000, slice(0, 320)), 1e9)
    assert whole.shapes == [(992, 992)]


def test_glass_far_from_tissue_becomes_one_colour() -> None:
    slide = picture("a", 1024, slice(400, 500))
    noisy = np.random.default_rng(0).integers(236, 245, (1024, 1024, 3), np.uint8)
    rgb = np.where(slide.levels[0] == 240, noisy, slide.levels[0])
    slide = Picture(slide.name, slide.source, slide.kind, slide.mpp, [rgb], slide.tissue)
    clean = packing.without_glass(slide)
    assert (clean[0, 0] == clean[-1, -1]).all()
    np.testing.assert_array_equal(clean[384 - 128 : 512 + 128, 384 - 128 : 512 + 128],
                                  rgb[384 - 128 : 512 + 128, 384 - 128 : 512 + 128])  # fmt: skip


def test_folders_that_are_no_packs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a packed folder"):
        tissue.load_index(tmp_path)
    (tmp_path / "pack.json").write_text('{"format": 99}')
    with pytest.raises(ConfigError, match="format 1"):
        tissue.load_index(tmp_path)
