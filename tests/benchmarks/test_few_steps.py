"""The comparison of ways to few steps from end to end at toy length."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.train.toys import AUTOENCODER, RENDERER, SUMMARIZER, UNET, VIT, WIDTH

torch = pytest.importorskip("torch")
pytest.importorskip("benchmarks.few_steps", exc_type=ImportError)

from benchmarks import few_steps  # noqa: E402
from benchmarks.few_steps import ENLARGED, KEYS  # noqa: E402
from benchmarks.few_steps_plot import plot  # noqa: E402
from benchmarks.few_steps_training import (  # noqa: E402
    ADVERSARIAL,
    RECIPES,
    UNTOUCHED,
    Comparison,
    join,
)
from wsicodec.bench.table import Table  # noqa: E402
from wsicodec.metrics.features import Extractor  # noqa: E402
from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder  # noqa: E402
from wsicodec.models.renderer import Renderer, RendererConfig  # noqa: E402
from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402
from wsicodec.models.zoomldm import ZoomLDM, ZoomLDMConfig  # noqa: E402
from wsicodec.train import checkpoint, stages  # noqa: E402
from wsicodec.train.adversary import Critic  # noqa: E402
from wsicodec.train.chain_eval import choose_fields  # noqa: E402
from wsicodec.train.config import build, load_config  # noqa: E402
from wsicodec.train.few_steps_stage import CONSISTENCY, METHODS  # noqa: E402

pytestmark = pytest.mark.torch
CONFIGS = Path(few_steps.__file__).parent / "configs"
RUN = ["shortcut, then adversarial", "shortcut", UNTOUCHED]
STEPS = ["1", "2"]


def keep(folder: Path, config: dict[str, Any], **parts: Any) -> str:
    """A run folder of networks that were never trained."""
    named = {f"average.{name}": part for name, part in parts.items()}
    tensors = {f"{k}{n}": v for k, part in named.items() for n, v in part.state_dict().items()}
    checkpoint.save(folder, tensors, {"seen": 0, "seconds": 0.0, "config": config})
    return str(folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("runs")
    rows = ["file,source repo,kind,split,est. mpp,sha256_16"]
    rng = np.random.default_rng(0)
    for number in (9, 8):
        small = rng.integers(90, 200, (48, 48, 3), np.uint8)
        small[..., 1] //= 2
        picture = Image.fromarray(small).resize((768, 768), Image.Resampling.BICUBIC)
        picture.save(root / f"{number}.png")
        rows.append(f"{number}.png,s{number},slide,train,0.5,{number:016x}")
    (root / "MANIFEST.csv").write_text("\n".join(rows) + "\n", "utf-8")
    torch.manual_seed(0)
    model = {"unet": UNET, "summarizer": SUMMARIZER}
    zoomldm = ZoomLDM(build(ZoomLDMConfig, model))
    told = {"model": zoomldm.config.to_json()}
    autoencoder = PixelShuffleAutoencoder(AutoencoderConfig.from_json(AUTOENCODER))
    embedder = VisionTransformer(VitConfig.from_json(VIT))
    runs = {
        "embedder": keep(root / "embedder", {"model": VIT}, **{"teacher.": embedder}),
        "autoencoder": keep(root / "autoencoder", {"model": AUTOENCODER}, **{"": autoencoder}),
    }
    start = keep(root / "flow", told, **{"": zoomldm})
    drawers = {
        "zoomldm.": zoomldm,
        "renderer.": Renderer(RendererConfig.from_json(RENDERER)),
        "critic.": Critic(WIDTH + 1, 8),
    }
    drawer = keep(root / "drawer", {"renderer": RENDERER, "zoomldm": told}, **drawers)
    data = {"root": str(root), "cache": str(root / "pyramids")}
    variants = {"folder": str(root / "variants"), "count": 1}
    for stage, settings in (
        ("variants", runs | {"data": data, "variants": variants}),
        ("codec", {"folder": str(root / "codec"), "bytes_per_vector": 12.0, "data": data,
                   "variants": variants}),
    ):  # fmt: skip
        (root / f"{stage}.json").write_text(json.dumps(settings))
        stages.run(stage, root / f"{stage}.json", threads=1)
    tables = str(root / "codec")
    flow = {
        "autoencoder": runs["autoencoder"], "tables": tables, "sides": [128], "model": model,
        "data": data, "variants": variants, "loop": {"batch": 2},
    }  # fmt: skip
    loop = {"loop": {"batch": 2}}
    return {
        "folder": str(root / "compared"), "seconds": 0.3, "draws": 3,
        "training": {"start": start, "zoomldm": flow} | loop,
        "finish": {"zoomldm": flow, "renderer": RENDERER, "critic": 8} | loop,
        "chain": {
            "embedder": runs["embedder"], "zoomldm": drawer, "tables": tables, "fields": 2,
            "steps": [1, 2], "data": data,
        },
    }  # fmt: skip


def means(pixels: np.ndarray) -> np.ndarray:
    half = pixels.shape[1] // 2
    return np.asarray(pixels.reshape(len(pixels), 2, half, 2 * half, 3).mean((2, 3)).reshape(-1, 6))


@pytest.fixture(scope="module")
def table(comparison: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Table:
    table = Table(tmp_path_factory.mktemp("rows") / "few_steps.csv", KEYS)
    given = build(Comparison, comparison)
    for row in few_steps.compare(given, Extractor("held_out", means), table, RUN):
        table.add(row)
    return table


def test_every_recipe_has_its_levels_steps_and_drawers(table: Table) -> None:
    found = [(r["recipe"], r["pixels"], r["steps"], r["level"]) for r in table.rows]
    wanted = [(ENLARGED, "", "0", level) for level in "01"]
    for recipe, kinds in zip(RUN, (["renderer"], *[["autoencoder", "renderer"]] * 2), strict=True):
        wanted += [(recipe, k, steps, level) for k in kinds for steps in STEPS for level in "01"]
    assert found == wanted
    assert all(float(r["fd_held_out"]) >= 0 and float(r["psnr"]) > 3 for r in table.rows)


def test_fields_are_compared_with_themselves(comparison: dict[str, Any]) -> None:
    given = build(Comparison, comparison)
    assert [f.name for f in choose_fields(given.chain)] == ["9.png", "8.png"], "not as laid out"
    scene = few_steps.scene_of(given, Extractor("held_out", means))
    for field, true in zip(scene.fields, scene.ground.level(0), strict=True):
        np.testing.assert_array_equal(field.rgb, true)


def test_recipes_train_for_equal_time_and_share_their_halves(
    table: Table, comparison: dict[str, Any]
) -> None:
    spent = {r["recipe"]: float(r["training_seconds"]) for r in table.rows}
    assert spent.pop(UNTOUCHED) == spent.pop(ENLARGED) == 0
    assert all(0.3 <= seconds < 5 for seconds in spent.values())
    folder = Path(comparison["folder"])
    assert {p.name for p in folder.iterdir()} == {
        "shortcut_0.3", "shortcut_shortcut_0.3", "shortcut_adversarial_0.3"
    }  # fmt: skip
    half, whole = (checkpoint.load(folder / f"{n}_0.3") for n in ("shortcut", "shortcut_shortcut"))
    assert whole[1]["seen"] > half[1]["seen"] > 0
    rows = (folder / "shortcut_shortcut_0.3" / "log.csv").read_text("utf-8").splitlines()
    assert int(rows[1].partition(",")[0]) == half[1]["seen"] + 2, "it went on from the half"


def test_rows_that_stand_are_not_made_again(table: Table, comparison: dict[str, Any]) -> None:
    given = build(Comparison, comparison)
    again = Table(table.path, KEYS)
    assert list(few_steps.compare(given, Extractor("held_out", means), again, RUN)) == []
    more = build(Comparison, comparison | {"seconds": 0.2})
    made = few_steps.compare(more, Extractor("held_out", means), again, [UNTOUCHED, "mean flow"])
    first = next(made)
    assert (first["recipe"], first["seconds"]) == ("mean flow", "0.2"), "others are not trained"


def test_the_finish_starts_from_both_runs(comparison: dict[str, Any], tmp_path: Path) -> None:
    flow, drawer = comparison["training"]["start"], comparison["chain"]["zoomldm"]
    join(Path(flow), Path(drawer), tmp_path)
    joined, drawn = (checkpoint.load(p)[0] for p in (tmp_path, Path(drawer)))
    assert {k.split(".")[1] for k in joined} == {"zoomldm", "renderer", "critic"}
    name = "average.renderer.first.weight"
    torch.testing.assert_close(joined[name], drawn[name])


def test_quality_is_drawn_against_time(table: Table, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot(table.rows, tmp_path / "p.png").stat().st_size > 10_000


def test_every_recipe_is_of_two_halves_that_are_known() -> None:
    known = {ADVERSARIAL, *METHODS}
    assert all(len(h) == 2 and set(h) <= known for name, h in RECIPES.items() if name != UNTOUCHED)
    assert RECIPES["consistency"] == (CONSISTENCY, CONSISTENCY)
    shipped = load_config(Comparison, CONFIGS / "few_steps.json")
    assert shipped.training.loop.batch == shipped.finish.loop.batch
    assert not Path(shipped.folder).is_absolute()
