"""Telling published checkpoints apart by names and shapes alone; takes no memory."""

from collections.abc import Callable
from math import prod

import pytest

pytest.importorskip("torch")

from tests.checks import Shapes, published_shapes
from wsicodec.diffusion.trained_steps import schedule_buffers, square_root_linear
from wsicodec.errors import BundleError
from wsicodec.importing.kinds import DINO_HEAD, recognise
from wsicodec.models.published.registry import expected_shapes
from wsicodec.models.published.timm_vit import TimmVitConfig

pytestmark = pytest.mark.torch

LISTS = published_shapes()


def under(prefix: str, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def latent_diffusion() -> Shapes:
    """Schedule, U-Net, running mean and autoencoder at full size."""
    averaged = {name.replace(".", ""): shape for name, shape in LISTS["unet"].items()}
    return (
        dict.fromkeys(schedule_buffers(square_root_linear()), (1000,))
        | under("model.diffusion_model.", LISTS["unet"])
        | {"model_ema.decay": (), "model_ema.num_updates": ()}
        | under("model_ema.diffusion_model", averaged)
        | under("first_stage_model.", LISTS["vq_f4"])
    )


def release() -> Shapes:
    return latent_diffusion() | under("cond_stage_model.", LISTS["vit_summarizer"])


def test_the_release_has_1750_entries_and_gives_three_parts() -> None:
    shapes = release()
    assert len(shapes) == 1750
    found = recognise(shapes)
    assert found.kind == "zoomldm"
    assert found.published_sizes
    assert {p.name: len(p.tensors) for p in found.parts} == {
        "unet": 688,
        "autoencoder": 205,
        "summarizer": 155,
    }
    assert len(found.ignored) == 12 + 688 + 2
    assert found.facts == {"unet_weights": "running mean"}


def test_the_running_mean_is_taken_by_its_published_names() -> None:
    unet = recognise(release()).parts[0]
    assert unet.tensors["time_embed.0.weight"] == "model_ema.diffusion_modeltime_embed0weight"
    assert len(set(unet.tensors.values())) == 688
    plain = {k: v for k, v in release().items() if not k.startswith("model_ema.")}
    found = recognise(plain)
    assert found.parts[0].tensors["out.2.bias"] == "model.diffusion_model.out.2.bias"
    assert found.facts == {"unet_weights": "last step"}


def test_older_torchvision_names_and_four_magnifications_are_known() -> None:
    shapes = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): shape
        for name, shape in release().items()
    }
    shapes["cond_stage_model.mag_embedding.weight"] = (4, 512)
    found = recognise(shapes)
    assert found.published_sizes
    summary = found.parts[2]
    assert summary.config.magnifications == 4
    assert summary.tensors["encoder.layers.encoder_layer_3.mlp.0.weight"].endswith(
        "linear_1.weight"
    )


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_hipt_is_known_with_and_without_its_head(prefix: str) -> None:
    head = dict.fromkeys(DINO_HEAD, (1,))
    found = recognise(under(prefix, LISTS["hipt_vit256"]) | head)
    assert (found.kind, found.published_sizes) == ("hipt-vit256", True)
    assert set(found.ignored) == DINO_HEAD
    assert recognise(under(prefix, LISTS["hipt_vit256"])).ignored == ()


def test_starts_for_training_are_known() -> None:
    loss = {"loss.discriminator.main.0.weight": (64, 3, 4, 4)}
    assert recognise(LISTS["vq_f4"] | loss).kind == "vq-f4"
    assert recognise(LISTS["vq_f4"] | loss).ignored == tuple(loss)
    classes = {"cond_stage_model.embedding.weight": (1001, 512)}
    assert recognise(latent_diffusion() | classes).kind == "cin256-v2"


def test_uni_is_known_by_its_layer_scale() -> None:
    shapes = expected_shapes(TimmVitConfig())
    assert sum(prod(shape) for shape in shapes.values()) == 303_350_784
    found = recognise(shapes)
    assert (found.kind, found.published_sizes, len(shapes)) == ("uni", True, 342)
    assert recognise(shapes | {"norm.weight": (1024,)}).parts[0].config == TimmVitConfig()


def test_large_image_diffusion_is_known_by_its_two_projections() -> None:
    condition = {
        "cond_stage_model.patch_fc.weight": (512, 384),
        "cond_stage_model.patch_fc.bias": (512,),
        "cond_stage_model.region_fc.weight": (512, 768),
        "cond_stage_model.region_fc.bias": (512,),
    }
    plain = {k: v for k, v in latent_diffusion().items() if not k.startswith("model_ema.")}
    found = recognise(plain | condition)
    assert (found.kind, found.published_sizes) == ("large-image-diffusion", True)
    assert found.parts[2].config.to_json()["magnifications"] == 1
    one = {name: shape for name, shape in condition.items() if "patch_fc" in name}
    with pytest.raises(BundleError, match="conditioning is not known"):
        recognise(plain | one)


def without(name: str) -> Callable[[Shapes], Shapes]:
    return lambda shapes: {k: v for k, v in shapes.items() if k != name}


def with_(name: str, *shape: int) -> Callable[[Shapes], Shapes]:
    return lambda shapes: shapes | {name: shape}


@pytest.mark.parametrize(
    ("base", "change", "said"),
    [
        ("release", without("model_ema.diffusion_modelout2bias"), "running mean is incomplete: 1"),
        ("release", without("first_stage_model.quant_conv.bias"), "1 of 205 tensors are missing"),
        ("release", without("cond_stage_model.pad_token"), "1 of 155 tensors are missing"),
        ("release", with_("cond_stage_model.strange", 3), "summarizer has 1 tensors too many"),
        ("release", with_("first_stage_model.post_quant_conv.bias", 4), r"\(3,\), got \(4,\)"),
        ("release", without("cond_stage_model.dim_reduce.weight"), "conditioning is not known"),
        ("vq_f4", without("encoder.mid.attn_1.q.weight"), "missing, such as encoder.mid.attn_1"),
        ("vq_f4", with_("quantize.embedding.weight", 8192, 4), "expected encoder.conv_out.weight"),
        ("hipt_vit256", without("norm.bias"), "1 of 150 tensors are missing"),
        ("hipt_vit256", with_("blocks.0.ls1.gamma", 384), "23 of 174 tensors are missing"),
        ("hipt_vit256", with_("reg_token", 1, 8, 384), "can be taken as ready features"),
        ("hipt_vit256", with_("pos_embed", 1, 3, 5, 7), "pos_embed"),
        ("hipt_vit256", with_("patch_embed.proj.weight", 3), "do not make sense"),
        ("hipt_vit256", with_("backbone.cls_token", 1, 1, 384), "with and without prefix"),
        ("none", with_("x_embedder.weight", 768, 512), "none has tensors such as x_embedder"),
    ],
)
def test_what_is_not_whole_or_not_known_is_refused(
    base: str, change: Callable[[Shapes], Shapes], said: str
) -> None:
    shapes = release() if base == "release" else LISTS.get(base, {})
    with pytest.raises(BundleError, match=said) as caught:
        recognise(change(shapes))
    assert "\n" not in str(caught.value)
