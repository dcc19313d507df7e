"""Inception-v3 offline, with random weights in a file of the right layout."""

import pickle
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import save_file

from wsicodec.errors import BundleError
from wsicodec.metrics import features
from wsicodec.metrics.inception import Inception, load_inception, resize

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """Random weights under the names of the usual file, its classifier included."""
    torch.manual_seed(0)
    found = {k: v for k, v in Inception().state_dict().items() if "num_batches" not in k}
    for name, value in found.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
        elif "bn." in name:
            value.normal_(1 if name.endswith("weight") else 0, 0.1)
        else:
            value.normal_(0, (2 / value[0].numel()) ** 0.5)
    return found | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}


@pytest.fixture(scope="module")
def file(tensors: dict[str, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inception") / "weights.safetensors"
    save_file(tensors, path)
    return path


def test_layout_has_the_published_size(tensors: dict[str, torch.Tensor]) -> None:
    """94 convolutions with batch norm and 21.8 million weights before the classifier."""
    kernels = [v for k, v in tensors.items() if k.endswith("conv.weight")]
    assert len(kernels) == 94
    assert sum(k.numel() for k in kernels) == 21_751_136
    assert tensors["Mixed_6c.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert tensors["Mixed_7b.branch3x3dbl_3a.conv.weight"].shape == (384, 384, 1, 3)


def test_features_of_any_size(file: Path, rng: np.random.Generator) -> None:
    extract = features.inception(file)
    pixels = rng.integers(0, 256, (2, 128, 96, 3), np.uint8)
    found = extract(pixels)
    assert found.shape == (2, 2048)
    assert found.dtype == np.float64
    assert not np.allclose(found[0], found[1])


def test_resize_begins_at_the_corner() -> None:
    ramp = torch.arange(4.0)[None, None, None].repeat(1, 1, 4, 1)
    assert resize(ramp, 8)[0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]


def test_features_are_torch_fidelity_s(
    tensors: dict[str, torch.Tensor], file: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    library = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError
    )
    path = tmp_path / "weights.pth"
    torch.save(tensors, path)
    theirs = library.FeatureExtractorInceptionV3("theirs", ["2048"], str(path))
    images = torch.from_numpy(rng.integers(0, 256, (1, 3, 140, 200), np.uint8))
    found, expected = load_inception(file)(images), theirs(images)[0]
    # Float32 through 94 convolutions: a part in 10^4 of the largest.
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


def test_a_plain_pth_is_read(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(tensors, path)
    loaded = load_inception(path).state_dict()
    assert torch.equal(
        loaded["Mixed_7c.branch_pool.bn.bias"], tensors["Mixed_7c.branch_pool.bn.bias"]
    )


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_code_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps({"fc.weight": _Harm()}, protocol=2))
    with pytest.raises(BundleError, match="tensors"):
        load_inception(path)
    assert "run" not in capsys.readouterr().out


def test_other_layouts_are_refused(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"Mixed_5b.conv": torch.zeros(1), "Conv2d_1a_3x3.bn.bias": torch.zeros(3)}, path)
    with pytest.raises(BundleError, match=r"1 are unknown .*1 have another shape"):
        load_inception(path)
