"""The stages by name: what `python -m wsicodec.train STAGE --config FILE` runs."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wsicodec.errors import ConfigError
from wsicodec.train.config import load_config, to_record


def run_autoencoder(path: Path) -> None:
    """Real tissue through few channels and back."""
    from wsicodec.train.autoencoder import AutoencoderStage, AutoencoderTraining

    _loop(load_config(AutoencoderTraining, path), AutoencoderStage)


def run_vq(path: Path) -> None:
    """The published families' autoencoder, and its weights under their names."""
    from wsicodec.train.vq import VqStage, VqTraining, publish

    config = load_config(VqTraining, path)
    _loop(config, VqStage)
    publish(config)


def run_embedder(path: Path) -> None:
    """Patches to vectors by self-distillation."""
    from wsicodec.train.embedder import EmbedderStage, EmbedderTraining

    _loop(load_config(EmbedderTraining, path), EmbedderStage)


def run_held_out(path: Path) -> None:
    """The encoder that judges pictures and never helps to draw them."""
    from wsicodec.train.held_out import HeldOutStage, HeldOutTraining, ship

    config = load_config(HeldOutTraining, path)
    _loop(config, HeldOutStage)
    if config.ship:
        ship(config)


def run_judge(path: Path) -> None:
    """Retrieval and probes of embedders on val."""
    from wsicodec.train.embedder_eval import Judgement, compare

    compare(load_config(Judgement, path))


def run_rates(path: Path) -> None:
    """Bytes per embedding against what is left of it."""
    from wsicodec.train.embedding_rate import RateSweep, sweep

    sweep(load_config(RateSweep, path))


def run_zoomldm(path: Path) -> None:
    """Summarizer and U-Net, from variants made before."""
    from wsicodec.train.zoomldm import ZoomStage, ZoomTraining

    _loop(load_config(ZoomTraining, path), ZoomStage)


def run_few_steps(path: Path) -> None:
    """The denoiser made exact in few steps, in latents."""
    from wsicodec.train.few_steps_stage import FewStepsStage, FewStepsTraining

    _loop(load_config(FewStepsTraining, path), FewStepsStage)


def run_distill(path: Path) -> None:
    """The denoiser made to draw in few steps, against a critic."""
    from wsicodec.train.distill import DistillStage, DistillTraining

    _loop(load_config(DistillTraining, path), DistillStage)


def run_edm(path: Path) -> None:
    """The model that draws embedding grids of slides that never were."""
    from wsicodec.train.edm import EdmStage, EdmTraining

    _loop(load_config(EdmTraining, path), EdmStage)


def run_variants(path: Path) -> None:
    """Latents and embeddings of flipped and re-stained tissue."""
    from wsicodec.train.prepare import Preparation, prepare

    prepare(load_config(Preparation, path))


def run_chain(path: Path) -> None:
    """Whole chains on fields of val, measured."""
    from wsicodec.train.chain_eval import ChainMeasurement, measure_chain

    measure_chain(load_config(ChainMeasurement, path))


def run_reconstruct(path: Path) -> None:
    """What autoencoders leave of val, measured."""
    from wsicodec.train.autoencoder_eval import Reconstruction, measure_autoencoders

    measure_autoencoders(load_config(Reconstruction, path))


def run_redraw(path: Path) -> None:
    """Drawn parents for the variants."""
    from wsicodec.train.redraw import Redrawing, redraw

    redraw(load_config(Redrawing, path))


def run_codec(path: Path) -> None:
    """Integer tables of the embeddings' entropy coder."""
    from wsicodec.train.codec import CodecFit, fit

    fit(load_config(CodecFit, path))


def run_bundle(path: Path) -> None:
    """A bundle out of finished runs."""
    from wsicodec.train.bundle import BundlePlan, write

    write(load_config(BundlePlan, path))


def run_unpack(path: Path) -> None:
    """A bundle back into run folders."""
    from wsicodec.train.unpack import Unpacking, unpack

    unpack(load_config(Unpacking, path))


def run_widen(path: Path) -> None:
    """A run that goes on with embeddings of more values."""
    from wsicodec.train.widen import Widening, widen

    widen(load_config(Widening, path))


def run_pack(path: Path) -> None:
    """A folder that a card trains from."""
    from wsicodec.train.card.packing import Packing, pack

    pack(load_config(Packing, path))


def run_collect(path: Path) -> None:
    """What came back from a card, as run folders."""
    from wsicodec.train.card.collecting import Collecting, collect

    collect(load_config(Collecting, path))


STAGES: dict[str, Callable[[Path], None]] = {
    "embedder": run_embedder,
    "held_out": run_held_out,
    "judge": run_judge,
    "rates": run_rates,
    "autoencoder": run_autoencoder,
    "vq": run_vq,
    "reconstruct": run_reconstruct,
    "variants": run_variants,
    "codec": run_codec,
    "zoomldm": run_zoomldm,
    "few_steps": run_few_steps,
    "distill": run_distill,
    "edm": run_edm,
    "redraw": run_redraw,
    "chain": run_chain,
    "bundle": run_bundle,
    "unpack": run_unpack,
    "widen": run_widen,
    "pack": run_pack,
    "collect": run_collect,
}


def run(stage: str, path: Path, threads: int) -> None:
    """Run one stage on `threads` threads per process; under torchrun, as one of its ranks."""
    if stage not in STAGES:
        raise ConfigError(f"expected a stage of {', '.join(STAGES)}, got {stage!r}")
    torch.set_num_threads(threads)
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several:
        cards = torch.cuda.device_count()
        if cards:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % cards)
        torch.distributed.init_process_group("nccl" if cards else "gloo")
    try:
        STAGES[stage](path)
    finally:
        if several:
            torch.distributed.destroy_process_group()


def _loop(config: Any, stage: Callable[[Any], Any]) -> None:
    from wsicodec.train.loop import Run

    Run(stage(config), config.loop, config.rate, Path(config.folder), to_record(config)).train()
