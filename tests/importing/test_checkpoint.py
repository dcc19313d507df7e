"""Whole imports at reduced size: what is in the bundle, what it can do, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402

import wsicodec  # noqa: E402
from tests.importing import kit  # noqa: E402
from wsicodec import api, cli  # noqa: E402
from wsicodec.errors import BundleError  # noqa: E402
from wsicodec.importing.checkpoint import import_checkpoint  # noqa: E402
from wsicodec.models.bundle import SEARCH_VARIABLE  # noqa: E402
from wsicodec.models.published.registry import build  # noqa: E402
from wsicodec.models.published.unet import LdmUNetConfig  # noqa: E402
from wsicodec.models.published.vit_summarizer import VitSummarizerConfig  # noqa: E402
from wsicodec.models.published.vq import VqConfig  # noqa: E402
from wsicodec.models.torch_backend import load_module  # noqa: E402
from wsicodec.models.vit import VisionTransformer, VitConfig  # noqa: E402

pytestmark = pytest.mark.torch

Save = Callable[..., Path]


def test_hipt_becomes_an_embedder_that_answers_as_the_teacher_does(
    saved: Save, tmp_path: Path
) -> None:
    teacher = kit.hipt()
    path = saved(kit.training_file(teacher), "vit256_small_dino.pth")
    bundle = import_checkpoint(path, tmp_path / "models", any_size=True)
    assert (bundle.name, bundle.family, bundle.embedding_width) == ("hipt-vit256", "hipt-cnn", 64)
    imported = bundle.config["record"]["imported"]
    assert imported["file"] == "vit256_small_dino.pth"
    assert imported["wrapper"] == "teacher"
    assert imported["published_as"] == ""
    assert imported["bytes"] == path.stat().st_size
    assert "Commons Clause" in bundle.config["licence"]
    original = VisionTransformer(kit.VIT).eval()
    original.load_state_dict(
        {k.removeprefix("backbone."): v for k, v in teacher.items() if k.startswith("backbone.")}
    )
    config = VitConfig.from_json(bundle.config["embedder"])
    assert config == kit.VIT
    ours = load_module(VisionTransformer(config), bundle, "embedder.safetensors").cpu()
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    assert torch.equal(ours(images), original(images))


def test_the_release_keeps_the_running_mean_and_every_other_tensor(
    saved: Save, tmp_path: Path
) -> None:
    state = kit.zoomldm()
    bundle = import_checkpoint(saved(state), tmp_path, name="brca", any_size=True)
    assert (bundle.path, bundle.family) == (tmp_path / "brca", "uni-vit")
    assert (bundle.embedding_width, bundle.latent_channels, bundle.steps) == (24, 3, 50)
    settings = (
        ("unet", LdmUNetConfig, kit.UNET, "model.diffusion_model.", -1),
        ("autoencoder", VqConfig, kit.VQ, "first_stage_model.", 1),
        ("summarizer", VitSummarizerConfig, kit.SUMMARIZER, "cond_stage_model.", 1),
    )
    for part, kind, expected, prefix, sign in settings:
        config = kind.from_json(bundle.config[part])
        assert config == expected
        module = load_module(build(config), bundle, f"{part}.safetensors").cpu()
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, state[prefix + name] * sign), name
    assert api.verify_model(bundle.path) == []


def test_the_fingerprint_names_the_weights_however_they_came(saved: Save, tmp_path: Path) -> None:
    state = kit.hipt()
    wrapped = import_checkpoint(saved(kit.training_file(state)), tmp_path, name="m", any_size=True)
    plain = tmp_path / "plain.safetensors"
    save_file({k.removeprefix("backbone."): v.contiguous() for k, v in state.items()}, plain)
    again = import_checkpoint(plain, tmp_path / "b", name="m", any_size=True)
    assert again.fingerprint == wrapped.fingerprint
    assert again.config["record"] != wrapped.config["record"]
    state["backbone.norm.bias"] += 1
    other = import_checkpoint(saved(state), tmp_path / "c", name="m", any_size=True)
    assert other.fingerprint != wrapped.fingerprint


@pytest.mark.parametrize("kind", ["vq-f4", "cin256-v2"])
def test_starts_for_training_become_bundles(kind: str, saved: Save, tmp_path: Path) -> None:
    state = kit.latent_diffusion(average=False)
    if kind == "vq-f4":
        prefix = "first_stage_model."
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    else:
        state["cond_stage_model.embedding.weight"] = torch.randn(11, 64)
    path = saved({"state_dict": state, "epoch": 3, "global_step": 9})
    bundle = import_checkpoint(path, tmp_path, any_size=True)
    assert (bundle.name, bundle.family) == (kind, "latent-diffusion")
    assert ("unet.safetensors" in bundle.config["files"]) == (kind == "cin256-v2")
    assert bundle.config["record"]["imported"]["wrapper"] == "state_dict"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s["betas"].mul_(1.001), "betas differ"),
        (lambda s: s.pop("posterior_variance"), "posterior_variance differ or are missing"),
    ],
)
def test_another_noise_schedule_is_refused(
    change: Callable[[Any], Any], said: str, saved: Save, tmp_path: Path
) -> None:
    state = kit.zoomldm()
    change(state)
    with pytest.raises(BundleError, match=said):
        import_checkpoint(saved(state), tmp_path / "models", any_size=True)
    assert not (tmp_path / "models").exists()


def test_other_sizes_and_second_bundles_are_taken_on_request_only(
    saved: Save, tmp_path: Path
) -> None:
    path = saved(kit.hipt())
    with pytest.raises(BundleError, match="other sizes than the published"):
        import_checkpoint(path, tmp_path)
    first = import_checkpoint(path, tmp_path, any_size=True)
    with pytest.raises(BundleError, match="already"):
        import_checkpoint(path, tmp_path, any_size=True)
    second = import_checkpoint(path, tmp_path, any_size=True, overwrite=True)
    assert second.fingerprint == first.fingerprint
    assert {p.name for p in tmp_path.iterdir()} == {"weights.ckpt", "hipt-vit256"}


def test_what_a_bundle_lacks_is_named_when_it_is_asked_for(
    saved: Save, tmp_path: Path, drawn_slide: Path
) -> None:
    hipt = import_checkpoint(saved(kit.hipt()), tmp_path, any_size=True)
    release = import_checkpoint(saved(kit.zoomldm()), tmp_path, any_size=True)
    with pytest.raises(BundleError, match=r"hipt-cnn cannot: it has no codec\.safetensors"):
        wsicodec.encode(drawn_slide, tmp_path / "a.zarr", bundle=hipt.path)
    with pytest.raises(BundleError, match=r"uni-vit cannot: it has no embedder\.safetensors"):
        wsicodec.encode(drawn_slide, tmp_path / "b.zarr", bundle=release.path)
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(BundleError, match=r"decode a slide.*'wsicodec model codec' fits a codec"):
        release.require("decode")
    start = import_checkpoint(saved(kit.cin256()), tmp_path, any_size=True)
    with pytest.raises(BundleError, match=r"it has no summarizer\.safetensors"):
        start.require("decode")


def test_verify_finds_damage_and_misfits(saved: Save, tmp_path: Path) -> None:
    bundle = import_checkpoint(saved(kit.hipt()), tmp_path, any_size=True)
    changed = {**bundle.config, "embedder": {**bundle.config["embedder"], "depth": 3}}
    (bundle.path / "bundle.json").write_text(json.dumps(changed))
    (found,) = api.verify_model(bundle.path)
    assert "12 tensors do not fit, such as blocks.2" in found
    part = bundle.path / "embedder.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(bytes(data))
    (found,) = api.verify_model(bundle.path)
    assert "damaged" in found


def test_the_command_line_imports_lists_shows_and_verifies(
    saved: Save,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models = tmp_path / "models"
    path = saved(kit.training_file(kit.hipt()), "vit.pth")
    words = ["model", "import", str(path), "--out", str(models), "--name", "mine", "--json"]
    assert cli.main(words) == 2
    assert "other sizes" in capsys.readouterr().err
    assert cli.main([*words, "--any-size"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["name"], printed["encodes"]) == ("mine", False)
    assert printed["imported"]["file"] == "vit.pth"
    monkeypatch.setenv(SEARCH_VARIABLE, str(models))
    assert cli.main(["model", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mine"]["family"] == "hipt-cnn"
    assert cli.main(["model", "show", "mine"]) == 0
    assert "cannot_encode" in capsys.readouterr().out
    assert cli.main(["model", "verify", "mine"]) == 0
    (models / "mine" / "embedder.safetensors").unlink()
    assert cli.main(["model", "verify", "mine"]) == 1
    assert cli.main(["model", "show", "yours"]) == 2
    assert "got 'yours'" in capsys.readouterr().err


def test_a_malicious_checkpoint_is_one_line_on_the_command_line(
    saved: Save, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    path = saved({"teacher": kit.hipt(), "args": Evil()})
    assert cli.main(["model", "import", str(path), "--out", str(tmp_path / "models")]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert "nothing in it was run" in printed.err
    assert printed.out == ""
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "models").exists()


def test_half_precision_is_kept_to_the_last_digit(saved: Save, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in kit.hipt().items()}
    bundle = import_checkpoint(saved(state), tmp_path, any_size=True)
    bias = bundle.weights("embedder.safetensors")["norm.bias"]
    assert bias.dtype == np.float32
    assert np.array_equal(bias, state["backbone.norm.bias"].float().numpy())
