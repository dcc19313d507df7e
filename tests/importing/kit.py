"""Synthetic checkpoints of the published designs, much reduced, saved as their makers save them."""

import argparse
from typing import Any

import torch

from wsicodec.diffusion.trained_steps import schedule_buffers, square_root_linear
from wsicodec.models.published.patch_summarizer import PatchSummarizer, PatchSummarizerConfig
from wsicodec.models.published.timm_vit import TimmVit, TimmVitConfig
from wsicodec.models.published.unet import LdmUNet, LdmUNetConfig
from wsicodec.models.published.vit_summarizer import VitSummarizer, VitSummarizerConfig
from wsicodec.models.published.vq import VqAutoencoder, VqConfig
from wsicodec.models.vit import VisionTransformer, VitConfig

State = dict[str, Any]
VIT = VitConfig(width=64, depth=2, heads=1, train_size=224)
UNET = LdmUNetConfig(
    width=32, multipliers=(1, 2), attention=(False, True), blocks=1, context_width=64
)
VQ = VqConfig(codes=32, width=32, multipliers=(1, 1, 2), blocks=1)
UNI = TimmVitConfig(width=24, depth=2, heads=1, patch=32)
PATCH_SUMMARIZER = PatchSummarizerConfig(embedding_width=64, region_width=16, width=64)
SUMMARIZER = VitSummarizerConfig(embedding_width=24, width=64, depth=2, heads=1)


def filled(module: Any) -> Any:
    """The module with no constant tensor, and about the same variance in every layer."""
    for name, tensor in module.state_dict().items():
        if tensor.ndim > 1:
            torch.nn.init.normal_(tensor, std=tensor[0].numel() ** -0.5)
        else:
            torch.nn.init.normal_(tensor, mean=float(name.endswith("weight")), std=0.1)
    return module.eval()


def hipt(prefix: str = "backbone.") -> State:
    head = {f"head.mlp.{i}.{kind}": torch.randn(2, 2) for i in (0, 2, 4) for kind in ("weight",)}
    head |= {"head.last_layer.weight_g": torch.ones(4, 1)}
    body = filled(VisionTransformer(VIT)).state_dict()
    return {f"{prefix}{name}": tensor for name, tensor in body.items()} | head


def training_file(teacher: State) -> State:
    """Wrapped as DINO's training script wraps it."""
    return {
        "student": {f"module.{k}": torch.zeros_like(v) for k, v in teacher.items()},
        "teacher": teacher,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", lr=5e-4, output_dir="/somewhere"),
        "dino_loss": {"center": torch.zeros(1, 4)},
        "fp16_scaler": {"scale": 65536.0},
    }


def latent_diffusion(average: bool = True) -> State:
    """Schedule, U-Net, its running mean and the autoencoder, without a condition."""
    tables = schedule_buffers(square_root_linear())
    state = {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()}
    unet = filled(LdmUNet(UNET)).state_dict()
    state |= {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    if average:
        state |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
        for name, tensor in unet.items():
            state["model_ema.diffusion_model" + name.replace(".", "")] = -tensor
    vq = filled(VqAutoencoder(VQ)).state_dict()
    return state | {f"first_stage_model.{name}": tensor for name, tensor in vq.items()}


def zoomldm() -> State:
    summary = filled(VitSummarizer(SUMMARIZER)).state_dict()
    return latent_diffusion() | {f"cond_stage_model.{name}": t for name, t in summary.items()}


def large_image_diffusion() -> State:
    """A checkpoint of Lightning's without a running mean."""
    condition = filled(PatchSummarizer(PATCH_SUMMARIZER)).state_dict()
    state = latent_diffusion(average=False)
    return state | {f"cond_stage_model.{name}": tensor for name, tensor in condition.items()}


def cin256() -> State:
    return latent_diffusion(average=False) | {
        "cond_stage_model.embedding.weight": torch.randn(11, 64)
    }


def every_kind() -> dict[str, State]:
    """A checkpoint of every kind, as its makers wrap it."""
    vq = {f"{name}": tensor for name, tensor in filled(VqAutoencoder(VQ)).state_dict().items()}
    return {
        "hipt-vit256": training_file(hipt()),
        "uni": filled(TimmVit(UNI)).state_dict(),
        "zoomldm": zoomldm(),
        "large-image-diffusion": {"state_dict": large_image_diffusion(), "epoch": 1},
        "cin256-v2": {"state_dict": cin256(), "global_step": 9},
        "vq-f4": {"state_dict": vq},
    }
