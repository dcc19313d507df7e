"""UNI's design against the plain transformer and Pillow, and the loader of imported bundles."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.models import networks  # noqa: E402
from wsicodec.models.published.patch_summarizer import (  # noqa: E402
    PatchSummarizer,
    PatchSummarizerConfig,
)
from wsicodec.models.published.timm_vit import (  # noqa: E402
    DEVIATION,
    MEAN,
    TimmVit,
    TimmVitConfig,
    prepare,
)
from wsicodec.models.vit import VisionTransformer  # noqa: E402

pytestmark = pytest.mark.torch
SIZES = TimmVitConfig(width=32, depth=2, heads=2, patch=16, size=64)


def test_with_gains_of_one_it_is_the_plain_transformer() -> None:
    plain = VisionTransformer(SIZES.plain).eval()
    ours = TimmVit(SIZES).eval()
    missing = ours.load_state_dict(plain.state_dict(), strict=False)
    assert {name.split(".", 2)[2] for name in missing.missing_keys} == {"ls1.gamma", "ls2.gamma"}
    images = torch.randn(2, 3, 64, 64)
    assert not torch.allclose(ours(images), plain(images), atol=1e-3)
    for name, tensor in ours.state_dict().items():
        if name.endswith("gamma"):
            tensor.fill_(1.0)
    torch.testing.assert_close(ours(images), plain(images))


def test_patches_are_reduced_and_normalised_as_the_release_does() -> None:
    rng = np.random.default_rng(0)
    patch = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8).repeat(16, 0).repeat(16, 1)
    small = np.asarray(Image.fromarray(patch).resize((224, 224), Image.Resampling.BILINEAR))
    wanted = (small / 255 - np.array(MEAN)) / np.array(DEVIATION)
    found = prepare(torch.from_numpy(patch)[None], 224)[0].permute(1, 2, 0).numpy()
    # Pillow's integer weights are off by up to one value of 255.
    assert np.abs(found - wanted).max() <= 1.01 / 255 / min(DEVIATION)
    same = prepare(torch.from_numpy(patch[:224, :224])[None], 224)
    assert same.shape == (1, 3, 224, 224)


def test_the_null_condition_is_zeros_before_the_projection() -> None:
    module = PatchSummarizer(PatchSummarizerConfig(8, 4, 6))
    tokens = module(torch.randn(2, 8, 1, 1), torch.zeros(2, dtype=torch.int64))
    assert tokens.shape == (2, 2, 6)
    torch.testing.assert_close(tokens[:, 1], module.region_fc.bias.expand(2, -1))
    torch.testing.assert_close(module.null(3)[:, 0], module.patch_fc.bias.expand(3, -1))


def test_networks_without_graphs_run_on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "_cuda", lambda: False)
    monkeypatch.setattr(networks, "find_spec", lambda name: name)
    assert networks.choose_backend("auto") == "onnx"
    assert networks.choose_backend("auto", graphs=False) == "torch"
    monkeypatch.setattr(networks, "find_spec", lambda name: name != "torch")
    with pytest.raises(BundleError, match=r"no ONNX graphs.*wsicodec\[torch\]"):
        networks.choose_backend("auto", graphs=False)
