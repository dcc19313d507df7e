"""A folder of drawn tissue with an index, as small as training can use."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLUMNS = "file,source repo,kind,split,est. mpp,sha256_16"


def _tissue(seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 1, (side // 16, side // 16))
    smooth = np.asarray(Image.fromarray((coarse * 255).astype(np.uint8)).resize((side, side), 3))
    weight = smooth[..., None].astype(np.float64) / 255
    rgb = (
        weight * (120, 60, 150) + (1 - weight) * (230, 170, 205) + rng.normal(0, 6, (side, side, 3))
    )
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def tissue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MANIFEST.csv and four images of two sources, 0.5 µm/px."""
    root = tmp_path_factory.mktemp("tissue")
    rows = [COLUMNS]
    for number, source in enumerate(("big/one", "big/one", "big/one", "small/two")):
        name = f"{number}.png"
        Image.fromarray(_tissue(number, 384)).save(root / name)
        rows.append(f"{name},{source},region,train,0.5,{number:016x}")
    (root / "MANIFEST.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return root


@pytest.fixture(scope="session")
def pyramid_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where decoded pyramids go."""
    return tmp_path_factory.mktemp("pyramids")
