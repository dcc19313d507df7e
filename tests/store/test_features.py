"""Ready embeddings in and out, in the arrays and attributes that CLAM and TRIDENT use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

h5py = pytest.importorskip("h5py")

from tests.store import kit  # noqa: E402
from wsicodec.config import DrawOptions  # noqa: E402
from wsicodec.errors import ConfigError, SlideError, StoreExistsError  # noqa: E402
from wsicodec.models.bundle import Bundle  # noqa: E402
from wsicodec.slide.opening import open_slide  # noqa: E402
from wsicodec.store.features import export_features, read_features  # noqa: E402
from wsicodec.store.publish import open_store  # noqa: E402
from wsicodec.store.writer import encode_slide  # noqa: E402

PICTURE = kit.tissue_picture(700, 900)


def never(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    raise AssertionError(f"{len(patches)} patches were embedded")


def payloads(store: Path, part: str) -> dict[str, bytes]:
    return {
        str(p.relative_to(store)): p.read_bytes()
        for p in (store / part / "c").rglob("*")
        if p.is_file()
    }


def exported(store: Path, out: Path) -> Path:
    return export_features(open_store(store, DrawOptions()), out)


def written(path: Path, coords: Any, width: int = kit.WIDTH, **attributes: Any) -> Path:
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((len(coords), width), np.float32)
        file["coords"] = np.array(coords, np.int32)
        file["coords"].attrs.update(attributes)
    return path


@pytest.mark.parametrize("mpp", [0.5, 0.25])
def test_what_is_exported_is_encoded_again_to_the_same_symbols(
    mpp: float, fake_bundle: Bundle, tmp_path: Path
) -> None:
    picture = PICTURE if mpp == 0.5 else PICTURE.repeat(2, 0).repeat(2, 1)
    first, again, out = tmp_path / "a.zarr", tmp_path / "b.zarr", tmp_path / "a.h5"
    with open_slide(picture, mpp=mpp) as slide:
        encode_slide(slide, first, fake_bundle, kit.embed)
        exported(first, out)
        encode_slide(slide, again, fake_bundle, never, features=out)
    assert payloads(first, "embeddings") == payloads(again, "embeddings") != {}
    reduction = round(0.5 / mpp)
    with h5py.File(out) as file:
        assert set(file) == {"features", "coords"}
        assert file["features"].dtype == np.float32
        assert file["coords"].attrs["patch_size_level0"] == 256 * reduction
        assert file["coords"].attrs["level0_magnification"] == pytest.approx(10 / mpp)
        grid, tissue = kit.read(first, "embeddings"), kit.read(first, "tissue")
        assert len(file["coords"]) == (tissue > 0).sum()
        for vector, (x, y) in zip(file["features"], file["coords"], strict=True):
            step = 256 * reduction
            np.testing.assert_array_equal(vector, grid[y // step, x // step])


def test_patches_without_a_feature_are_embedded(
    store: Path, fake_bundle: Bundle, tmp_path: Path
) -> None:
    out = exported(store, tmp_path / "a.h5")
    with h5py.File(out, "r+") as file:
        kept = [file[name][1:] for name in ("features", "coords")]
        attributes = dict(file["coords"].attrs)
        first = file["coords"][0]
        del file["features"], file["coords"]
        file["features"], file["coords"] = kept[0][None], kept[1]  # as older TRIDENT: (1, n, d)
        file["coords"].attrs.update(attributes)
    asked: list[int] = []

    def embed(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(patches))
        return np.full((len(patches), kit.WIDTH), 0.5, np.float32)

    with open_slide(PICTURE, mpp=0.5) as slide:
        encode_slide(slide, tmp_path / "b.zarr", fake_bundle, embed, features=out)
    assert sum(asked) == 1
    grid, before = kit.read(tmp_path / "b.zarr", "embeddings"), kit.read(store, "embeddings")
    assert np.abs(grid[first[1] // 256, first[0] // 256] - 0.5).max() < 1
    changed = np.argwhere((grid != before).any(-1)).tolist()
    assert changed == [[first[1] // 256, first[0] // 256]]


def test_clam_files_have_no_attributes_and_are_taken_on_the_lattice(tmp_path: Path) -> None:
    path = written(tmp_path / "clam.h5", [[0, 256], [258, 0]])
    with open_slide(PICTURE, mpp=0.5) as slide:
        ready = read_features(path, slide, kit.WIDTH)
    assert ready.rows.tolist() == [[-1, 1, -1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]]


@pytest.mark.parametrize(
    ("coords", "options", "said"),
    [
        ([[0, 0]], {"width": 5}, r"expected features \(n, 16\)"),
        ([[0, 0], [100, 0]], {}, "100 px off"),
        ([[1024, 0]], {}, "another slide"),
        ([[0, 0], [2, 2]], {}, "at the same place"),
        ([[0, 0]], {"patch_size_level0": 512}, "of 256 px of the source"),
        ([[0, 0]], {"patch_size": 256, "downsample": [2.0, 2.0]}, "got 512 px"),
        ([[0, 0]] * 13, {}, "at most 12 features"),
    ],
)
def test_features_of_another_kind_are_refused(
    coords: Any, options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "odd.h5", coords, **options)
    with open_slide(PICTURE, mpp=0.5) as slide, pytest.raises(SlideError, match=said):
        read_features(path, slide, kit.WIDTH)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros(3)
    with h5py.File(tmp_path / "nan.h5", "w") as file:
        file["features"] = np.full((1, kit.WIDTH), np.nan)
        file["coords"] = np.zeros((1, 2), np.int64)
    with open_slide(PICTURE, mpp=0.5) as slide:
        for name, said in (
            ("none.h5", "HDF5 file"),
            ("text.h5", "HDF5 file"),
            ("other.h5", "'features' and 'coords'"),
            ("nan.h5", "finite"),
        ):
            with pytest.raises(SlideError, match=said):
                read_features(tmp_path / name, slide, kit.WIDTH)


def test_an_export_replaces_nothing_unasked(store: Path, tmp_path: Path) -> None:
    group = open_store(store, DrawOptions())
    with pytest.raises(ConfigError, match=r"\.h5"):
        export_features(group, tmp_path / "a.csv")
    out = tmp_path / "a.h5"
    out.write_text("mine")
    with pytest.raises(StoreExistsError):
        export_features(group, out)
    assert out.read_text() == "mine"
    export_features(group, out, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "slide.zarr"]
