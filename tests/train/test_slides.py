"""Slides read where samples lie: places, indices, and the stages that draw from them."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.train.toys import AUTOENCODER, SUMMARIZER, UNET, VIT, WIDTH
from wsicodec.errors import ConfigError, MppError
from wsicodec.geometry import PATCH, Region
from wsicodec.resample import box_reduce
from wsicodec.slide import open_slide
from wsicodec.train.augment import turn
from wsicodec.train.data import (
    DataConfig,
    Sampler,
    generator,
    load_pictures,
    load_places,
    load_slides,
)
from wsicodec.train.index import read_index

torch = pytest.importorskip("torch")

from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402
from wsicodec.train import checkpoint, stages  # noqa: E402
from wsicodec.train.autoencoder import AutoencoderStage, AutoencoderTraining  # noqa: E402
from wsicodec.train.config import build  # noqa: E402
from wsicodec.train.embedder import EmbedderStage, EmbedderTraining  # noqa: E402
from wsicodec.train.loop import Run  # noqa: E402
from wsicodec.train.streamed import encoder_of, stream_variants, unturned  # noqa: E402
from wsicodec.train.variants import VariantConfig  # noqa: E402
from wsicodec.train.zoomldm import ZoomStage, ZoomTraining  # noqa: E402

pytestmark = pytest.mark.torch
LOOP = {"batch": 4, "log_every": 4}
RATE = {"total": 8, "warmup": 4}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, drawn_slide: Path) -> Path:
    """A folder with three equal pyramidal TIFFs: two of one source, one on its own."""
    root = tmp_path_factory.mktemp("archive")
    (root / "hospital").mkdir()
    for name in ("hospital/a.tif", "hospital/b.tif", "c.tif"):
        shutil.copy(drawn_slide, root / name)
    (root / "notes.txt").write_text("no slide", "utf-8")
    return root


@pytest.fixture(scope="module")
def data(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    cache = str(tmp_path_factory.mktemp("kept"))
    return DataConfig(
        root=str(archive), index="", cache=cache, stream=True, open_slides=2, source_cap=0.5
    )


def test_a_folder_is_an_index(archive: Path) -> None:
    found = read_index(archive, "", "train")
    assert [(e.name, e.source, e.mpp) for e in found] == [
        ("c.tif", "c.tif", None),
        ("hospital/a.tif", "hospital", None),
        ("hospital/b.tif", "hospital", None),
    ]
    assert len({e.digest for e in found}) == 3


def test_a_table_says_source_scale_and_split(archive: Path) -> None:
    rows = "file,source,mpp,split\nc.tif,one,0.25,train\nhospital/a.tif,,,val\n"
    (archive / "slides.csv").write_text(rows, "utf-8")
    assert [(e.source, e.mpp) for e in read_index(archive, "slides.csv", "train")] == [
        ("one", 0.25)
    ]
    assert read_index(archive, "slides.csv", "val")[0].source == "hospital/a.tif"
    for index, said in (("none.csv", "an index of slides"), ("slides.csv", "split 'test'")):
        with pytest.raises(ConfigError, match=said):
            read_index(archive, index, "test")
    (archive / "other.csv").write_text("name\nc.tif\n", "utf-8")
    with pytest.raises(ConfigError, match="a column `file`"):
        read_index(archive, "other.csv", "train")


def test_a_window_is_the_box_filtered_slide(data: DataConfig, drawn_slide: Path) -> None:
    slide = load_slides(data)[0]
    assert slide.shapes == [(1024, 1536), (512, 768), (256, 384), (128, 192), (64, 96)]
    assert slide.mag_index == 0
    with open_slide(drawn_slide) as opened:
        whole = opened.read(Region(0, 0, 1024, 1536))
    for level in range(4):
        expected = box_reduce(whole, 1 << level)[32:96, 16:80]
        assert np.array_equal(slide.crop(level, 32, 16, 64), expected)
    # The slide's own small levels went through JPEG once more; they must lie where they should.
    coarse, true = slide.crop(4, 0, 0, 64).astype(int), box_reduce(whole, 16).astype(int)
    errors = [np.abs(coarse - true[:64, x : x + 64]).mean() for x in (0, 1)]
    assert errors[0] < 0.5 * errors[1]
    assert np.abs((coarse - true[:64, :64]).mean((0, 1))).max() < 1.5
    assert (slide.crop(4, 60, 90, 64)[4:, 6:] == 255).all()
    assert (slide.crop(0, 1000, 0, 64)[24:] == 255).all()


def test_windows_lie_on_tissue_and_follow_from_their_number(data: DataConfig) -> None:
    slide = load_slides(data)[0]
    assert 0 < slide.tissue_in(0, 0, 0, 1024) < 1
    corners = slide.corners(generator(0, 0), 1, 32, 400)
    assert all(0 <= y <= 512 - 32 and 0 <= x <= 768 - 32 for y, x in corners)
    over = np.mean([slide.tissue_in(1, y, x, 32) for y, x in corners])
    anywhere = generator(0, 1).integers(0, (480, 736), (400, 2))
    assert over > np.mean([slide.tissue_in(1, int(y), int(x), 32) for y, x in anywhere]) + 0.08
    sampler = Sampler(load_places(data), data, 64)
    forwards = [sampler.draw(generator(3, i), 64, 8) for i in range(30)]
    assert forwards == [sampler.draw(generator(3, i), 64, 8) for i in reversed(range(30))][::-1]
    assert {w.level for w in forwards} > {0, 1, 2}
    assert sum(w.picture == 0 for w in forwards) > 8  # two of three slides share one source


def test_few_slides_are_open_and_closed_ones_open_again(data: DataConfig) -> None:
    slides = load_slides(data)
    first = slides[0].crop(0, 64, 64, 32)
    for slide in slides[1:]:
        slide.crop(0, 0, 0, 32)
    shelf = slides[0].shelf
    assert len(shelf._open) == 2
    assert slides[0].entry.path not in shelf._open
    assert np.array_equal(slides[0].crop(0, 64, 64, 32), first)


def test_what_cannot_be_streamed_is_refused(data: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not stream"):
        load_pictures(data)
    from PIL import Image

    Image.fromarray(np.full((300, 300, 3), 250, np.uint8)).save(tmp_path / "blank.png")
    here = dataclasses.replace(data, root=str(tmp_path))
    with pytest.raises(MppError, match="micrometres per pixel"):
        load_slides(here)
    (tmp_path / "blank.csv").write_text("file,mpp\nblank.png,0.5\n", "utf-8")
    here = dataclasses.replace(here, index="blank.csv", cache=str(tmp_path / "kept"))
    with pytest.warns(UserWarning, match="no tissue"):
        assert load_slides(here) == []


@pytest.mark.parametrize("code", range(8))
def test_squares_are_found_where_they_were_before_turning(code: int) -> None:
    image = np.arange(12 * 20).reshape(12, 20)
    turned = turn(image, code)
    y, x = unturned(code, 3, 5, 4, turned.shape)
    assert np.array_equal(turn(image[y : y + 4, x : x + 4], code), turned[3:7, 5:9])


class Runs:
    """Settings of toy stages in one folder."""

    def __init__(self, root: Path, data: DataConfig) -> None:
        self.root, self.config = root, data
        self.data = dataclasses.asdict(data) | {"magnifications": list(data.magnifications)}
        self.variants = {"folder": self.at("variants"), "count": 1}

    def at(self, name: str) -> str:
        return str(self.root / name)

    def settings(self, name: str) -> dict[str, Any]:
        return {
            "folder": self.at(name), "side": 64, "data": self.data, "loop": LOOP, "rate": RATE,
        }  # fmt: skip

    def stage(self, name: str, record: dict[str, Any]) -> None:
        path = self.root / f"{name}.json"
        path.write_text(json.dumps(record), "utf-8")
        stages.run(name, path, threads=1)

    def untrained_embedder(self) -> None:
        torch.manual_seed(0)
        state = VisionTransformer(VitConfig.from_json(VIT)).state_dict()
        tensors = {f"average.teacher.{k}": v for k, v in state.items()}
        facts = {"seen": 0, "seconds": 0.0, "config": {"model": VIT}}
        checkpoint.save(Path(self.at("embedder")), tensors, facts)

    def tables(self) -> str:
        """Tables of any vectors, fitted before there are embeddings."""
        from safetensors.numpy import save_file

        from wsicodec.coding import fit_tables

        folder = self.root / "early"
        folder.mkdir(exist_ok=True)
        vectors = np.random.default_rng(0).normal(0, 1, (200, WIDTH)).astype(np.float32)
        tensors = fit_tables(vectors, step=0.5).to_tensors()
        save_file(dict(tensors), folder / "codec.safetensors")
        (folder / "scale.json").write_text('{"embedding_scale": 1.0}', "utf-8")
        return str(folder)

    def zoomldm(self) -> dict[str, Any]:
        return {
            "folder": self.at("zoomldm"), "autoencoder": self.at("autoencoder"),
            "tables": self.at("codec"), "sides": [64], "data": self.data,
            "model": {"unet": UNET, "summarizer": SUMMARIZER},
            "variants": self.variants, "loop": LOOP, "rate": RATE,
        }  # fmt: skip


@pytest.fixture(scope="module")
def runs(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), data)


def test_a_resumed_run_has_the_same_next_losses(runs: Runs) -> None:
    config = build(AutoencoderTraining, runs.settings("resumed") | {"model": AUTOENCODER})

    def fresh(folder: Path) -> Run:
        return Run(AutoencoderStage(config), config.loop, config.rate, folder, {})

    whole, cut = fresh(runs.root / "whole"), fresh(runs.root / "cut")
    losses = [whole.step()["loss"] for _ in range(3)]
    cut.step()
    cut.save()
    again = fresh(runs.root / "cut")
    assert [again.step()["loss"] for _ in range(2)] == losses[1:]


def test_the_embedder_draws_crops(runs: Runs) -> None:
    crops = {"window": 96, "large": 64, "small": 32}
    settings = {k: v for k, v in runs.settings("embedder").items() if k != "side"}
    stage = EmbedderStage(build(EmbedderTraining, settings | {"model": VIT, "crops": crops}))
    batch = {k: torch.from_numpy(v)[None] for k, v in stage.sample(7).items()}
    assert batch["large"].shape == (1, 2, 3, 64, 64)
    assert batch["large"].float().std() > 5


def test_from_slides_to_a_denoiser(runs: Runs) -> None:
    runs.stage("autoencoder", runs.settings("autoencoder") | {"model": AUTOENCODER})
    runs.untrained_embedder()
    common = {"data": runs.data, "variants": runs.variants}
    with pytest.raises(ConfigError, match="run the stage `variants` first"):
        ZoomStage(build(ZoomTraining, runs.zoomldm() | {"tables": runs.tables()}))
    runs.stage("variants", {"embedder": runs.at("embedder")} | common)
    runs.stage("codec", {"folder": runs.at("codec"), "bytes_per_vector": 8.0} | common)
    facts = json.loads((runs.root / "codec" / "scale.json").read_text("utf-8"))
    assert facts["per_source"].keys() == {"hospital", "c.tif"}
    runs.stage("zoomldm", runs.zoomldm())
    assert checkpoint.load(runs.root / "zoomldm")[1]["seen"] == 8
    stage = ZoomStage(build(ZoomTraining, runs.zoomldm()), pixels=True)
    samples = [stage.sample(i) for i in range(24)]
    assert {int(s["mag"]) for s in samples} > {0, 1, 2}
    assert max(float(np.abs(s["cond"]).max()) for s in samples) > 0
    again = stage.sample(5)
    assert all(np.array_equal(again[k], samples[5][k]) for k in again)


def test_embeddings_are_those_of_the_turned_and_stained_pixels(runs: Runs) -> None:
    runs.untrained_embedder()
    from wsicodec.train.prepare import patch_embedder

    embed = patch_embedder(Path(runs.at("embedder")), "average.teacher.")
    config = VariantConfig(folder=runs.at("checked"), count=4)
    variants = stream_variants(load_slides(runs.config)[:1], config, encoder_of(None))
    variant = next(v for v in variants if v.code & 1 and v.bend and v.quality is None)
    assert variant.cells == (6, 4)
    variant.make_embeddings(embed)
    found = variant.embeddings()
    assert found is not None
    y, x = (int(i) for i in np.argwhere(found[1])[-1])
    patch = variant.crop(0, y * PATCH, x * PATCH, PATCH)
    np.testing.assert_allclose(found[0][y, x], embed(patch[None])[0], atol=2e-3)
    parent = variant.crop(1, y * PATCH // 2, x * PATCH // 2, PATCH // 2)
    assert np.array_equal(box_reduce(patch, 2), parent)
    corners = variant.corners(generator(0, 1), 0, PATCH, 50)
    inside = np.mean([variant.tissue_in(0, *corner, PATCH) for corner in corners])
    assert inside > variant.slide.tissue_in(0, 0, 0, 1024)
