"""The parity check: honest on equal networks, and awake to one changed tensor."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file, save_file  # noqa: E402

from tests.importing import kit  # noqa: E402
from wsicodec import cli  # noqa: E402
from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing.checkpoint import import_checkpoint  # noqa: E402
from wsicodec.models.bundle import Bundle  # noqa: E402
from wsicodec.models.published.vit_summarizer import VitSummarizer  # noqa: E402
from wsicodec.models.vit import VisionTransformer  # noqa: E402
from wsicodec.zoomldm import parity  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("parity")
    torch.save(kit.zoomldm(), folder / "weights.ckpt")
    return import_checkpoint(folder / "weights.ckpt", folder, any_size=True)


def test_probes_are_the_same_everywhere_and_differ_from_one_another(release: Bundle) -> None:
    probes = parity.probes(release)
    assert probes["summarizer.grid.2"].shape == (1, 24, 4, 4)
    assert probes["unet.context"].shape == (1, 65, 64)
    assert np.abs(probes["autoencoder.image"]).max() == 1
    # Frozen: outputs of a reference run are of no use for other probes.
    frozen = [0.114013671875, -1.069580078125, -0.601806640625, 0.3173828125]
    assert probes["unet.x"][0, 2, 63, 60:].tolist() == frozen
    assert not np.allclose(probes["unet.x"], probes["autoencoder.latent"])


def test_a_reference_run_of_the_same_network_agrees(
    release: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, outputs = tmp_path / "probes.safetensors", tmp_path / "outputs.safetensors"
    assert cli.main(["model", "probes", str(release.path), str(written)]) == 0
    assert set(load_file(written)) == set(parity.probes(release))
    reference = parity.outputs(release)
    assert set(reference) == {"unet", "encode", "decode", *(f"summarizer.{k}" for k in range(5))}
    reference["unet"] = reference["unet"] + 1e-5  # another kernel's rounding
    save_file(reference, outputs)
    capsys.readouterr()
    assert cli.main(["model", "parity", str(release.path), str(outputs), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert 0 < report["errors"]["unet"] < 1e-4
    assert report["errors"]["decode"] == 0


def test_one_changed_tensor_is_found(release: Bundle, tmp_path: Path) -> None:
    """The reference is PyTorch on a summarizer whose positions are off by one slot."""
    outputs = parity.outputs(release)
    other = VitSummarizer(kit.SUMMARIZER).eval()
    weights = release.weights("summarizer.safetensors")
    other.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in weights.items()})
    with torch.no_grad():
        rolled = other.encoder.pos_embedding.roll(1, 1)
        other.encoder.pos_embedding.copy_(rolled)
        grid = torch.from_numpy(parity.probes(release)["summarizer.grid.3"])
        outputs["summarizer.3"] = other(grid, torch.tensor([3])).numpy()
    save_file(outputs, tmp_path / "o.safetensors")
    errors = parity.compare(release, tmp_path / "o.safetensors")
    assert errors["summarizer.3"] > 10 * parity.TOLERANCE
    assert max(e for name, e in errors.items() if name != "summarizer.3") == 0
    words = ["model", "parity", str(release.path), str(tmp_path / "o.safetensors")]
    assert cli.main(words) == 1


def test_an_embedder_alone_is_compared_alone(tmp_path: Path) -> None:
    state = kit.hipt("")
    torch.save(state, tmp_path / "vit.pth")
    bundle = import_checkpoint(tmp_path / "vit.pth", tmp_path, any_size=True)
    original = VisionTransformer(kit.VIT).eval()
    original.load_state_dict({k: v for k, v in state.items() if not k.startswith("head.")})
    with torch.no_grad():
        vector = original(torch.from_numpy(parity.probes(bundle)["embedder.image"]))
    save_file({"embedder": vector.numpy()}, tmp_path / "o.safetensors")
    assert parity.compare(bundle, tmp_path / "o.safetensors") == {"embedder": 0.0}


def test_other_outputs_are_refused(release: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "o.safetensors"
    with pytest.raises(BundleError, match="safetensors file of outputs"):
        parity.compare(release, path)
    outputs = parity.outputs(release)
    save_file({**outputs, "unet": outputs["unet"][:, :2].copy()}, path)
    with pytest.raises(BundleError, match="unet of shape"):
        parity.compare(release, path)
    save_file({"unet": outputs["unet"]}, path)
    with pytest.raises(BundleError, match="got unet"):
        parity.compare(release, path)
