"""Embeddings as AnnData and Slideflow keep them."""

from pathlib import Path

import numpy as np
import pytest

from tests.store import kit
from wsicodec.config import DrawOptions
from wsicodec.errors import ConfigError
from wsicodec.store.features import export_features
from wsicodec.store.publish import open_store


def expected(store: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and centres x, y of the patches with tissue, row by row."""
    grid, tissue = kit.read(store, "embeddings"), kit.read(store, "tissue")
    cells = np.argwhere(tissue > 0)
    return grid[tuple(cells.T)], cells[:, ::-1] * 256 + 128


def test_slideflow_finds_a_tensor_and_the_centres_of_its_tiles(store: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "bags").mkdir()
    out = export_features(open_store(store, DrawOptions()), tmp_path / "bags" / "s.pt")
    bag = torch.load(out, weights_only=True)
    vectors, centres = expected(store)
    assert bag.dtype == torch.float32
    np.testing.assert_array_equal(bag.numpy(), vectors)
    np.testing.assert_array_equal(np.load(tmp_path / "bags" / "s.index.npz")["arr_0"], centres)
    assert (tmp_path / "bags" / "bags_config.json").is_file()
    assert sorted(p.name for p in (tmp_path / "bags").iterdir()) == [
        "bags_config.json",
        "s.index.npz",
        "s.pt",
    ]


def test_anndata_reads_what_was_written(store: Path, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    out = export_features(open_store(store, DrawOptions()), tmp_path / "s.h5ad")
    table = anndata.read_h5ad(out)
    vectors, centres = expected(store)
    np.testing.assert_array_equal(np.asarray(table.X), vectors)
    np.testing.assert_array_equal(table.obsm["spatial"], centres)
    assert table.uns["patch_size_level0"] == 256
    assert table.obs_names[0] == f"{table.obs['row'].iloc[0]}x{table.obs['column'].iloc[0]}"


def test_a_missing_library_is_named(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ConfigError, match=r"wsicodec\[anndata\]"):
        export_features(open_store(store, DrawOptions()), tmp_path / "s.h5ad")
    assert not (tmp_path / "s.h5ad").exists()
    with pytest.raises(ConfigError, match=r"\.h5ad, \.pt"):
        export_features(open_store(store, DrawOptions()), tmp_path / "s.csv")
