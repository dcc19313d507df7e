"""The stages on a card: losses are those of the stages at home, samples come a batch at a time."""

from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wsicodec.geometry import PATCH
from wsicodec.models.autoencoder import FACTOR, PixelShuffleAutoencoder
from wsicodec.models.blocks import channels_last
from wsicodec.models.renderer import Renderer
from wsicodec.train import augment
from wsicodec.train.adversary import Critic
from wsicodec.train.augment import AugmentConfig
from wsicodec.train.autoencoder import AutoencoderStage, AutoencoderTraining
from wsicodec.train.card.bank import send
from wsicodec.train.card.deck import AUTOENCODER_EXACT, Deck, Weights, new_renderer, new_zoomldm
from wsicodec.train.card.parents import draw_parents, redraw
from wsicodec.train.card.pixels import blur, draw_bends, resample, to_bytes, turn_each
from wsicodec.train.card.plan import StagePlan
from wsicodec.train.card.tissue import Squares, Tissue
from wsicodec.train.card.variants import Variants
from wsicodec.train.checkpoint import part
from wsicodec.train.data import generator
from wsicodec.train.dino import Distillation
from wsicodec.train.distill import BORDER, DistillStage, DistillTraining, Trio
from wsicodec.train.embedder import BATCH, EmbedderStage, EmbedderTraining
from wsicodec.train.guess import fit_guess
from wsicodec.train.zoomldm import CELL, ZoomStage, ZoomTraining

Batch = dict[str, Tensor]
SHEET, FINISH, START = 2**40, 2**41, 2**42  # numbers of batches that are not trained on


class CardStage(Protocol):
    """What the loop of a slice asks of a stage."""

    @property
    def config(self) -> Any:
        """The stage's configuration; its `loop` and `rate` steer."""

    @property
    def model(self) -> nn.Module:
        """What trains."""

    def batch(self, number: int, count: int) -> Batch:
        """Batch `number` of `count` samples, a function of these two and the round."""

    def loss(self, batch: Batch) -> tuple[Tensor, Batch]:
        """Mean loss of a batch, and what should be logged."""

    def renew(self, number: int, /) -> None:
        """Make the tissue of round `number`."""

    def refresh(self) -> None:
        """Bring up to date what follows from the networks in training, from their averages."""

    def sheet(self) -> NDArray[np.uint8]:
        """A picture of where it stands."""

    def finish(self) -> None:
        """Complete the model, which holds the average."""

    def groups(self, average: Weights) -> dict[str, Weights]:
        """Averaged weights by the group of networks they belong to."""


class CardEmbedder(EmbedderStage):
    """`EmbedderStage` with its crops cut, stained and resampled on the device."""

    def __init__(self, config: EmbedderTraining, deck: Deck, *, fresh: bool) -> None:
        self.config, self.deck = config, deck
        torch.manual_seed(config.loop.seed)
        model = Distillation(config.model, config.dino)
        self.model = deck.ready(model, ("head", "teacher_head", "readout"))
        self.tissue = Tissue(deck.pictures, deck.device)
        self.drawer = self.tissue.drawer(config.data, config.crops.window)
        if fresh:
            self._start_fresh()
        else:
            self._start_from(deck.weights["embedder"])

    def _start_from(self, found: Weights) -> None:
        """Take what fits; a pack may hold the teacher alone."""
        teacher = part(found, "teacher.")
        found = {f"student.{k}": v for k, v in teacher.items()} | found
        mine = self.model.state_dict()
        fitting = {k: v for k, v in found.items() if k in mine and v.shape == mine[k].shape}
        self.model.load_state_dict(mine | fitting)

    def _start_fresh(self) -> None:
        side = self.config.model.patch
        pixels = self.batch(START, 128)["large"][:, 0].float().div(127.5).sub(1)
        tokens = pixels.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 1, 4, 5)
        self.model.student.start_from_pixels(tokens.flatten(0, 2))
        self.model.teacher.load_state_dict(self.model.student.state_dict())

    def renew(self, _number: int, /) -> None:
        """Nothing to make: every crop is turned and stained on its own."""

    def refresh(self) -> None:
        """Nothing follows from this network while it trains."""

    def batch(self, number: int, count: int) -> Batch:
        """Crops `large` (n, g, 3, h, w) and `small` (n, l, 3, h', w'); `index` stays at home."""
        crops = self.config.crops
        rng = generator(self.config.loop.seed, number)
        windows = self.drawer.draw(rng, count, crops.window)
        rgb = self.tissue.rgb(Squares.of(windows, self.deck.device))
        rgb = draw_bends(rng, count, self.config.augment, self.deck.device).apply(rgb)
        parts = {}
        for name, side, several, area in (
            ("large", crops.large, crops.large_count, crops.large_area),
            ("small", crops.small, crops.small_count, crops.small_area),
        ):
            cut = [self._crops(rng, rgb, area, side) for _ in range(several)]
            parts[name] = torch.stack(cut, 1)
        return parts | {"index": torch.arange(number * count, (number + 1) * count)}

    def _crops(
        self, rng: np.random.Generator, windows: Tensor, area: tuple[float, float], side: int
    ) -> Tensor:
        crops, count = self.config.crops, len(windows)
        cut = np.rint(crops.window * np.sqrt(rng.uniform(*area, count)))
        corner = np.floor(rng.random((count, 2)) * (crops.window - cut + 1)[:, None])
        radius = rng.uniform(0, crops.blur, count) * (rng.random(count) < crops.blur_share)
        told = np.column_stack([corner, cut, radius, rng.integers(0, 8, count)]).astype(np.float32)
        sent = send(told, windows.device)
        images = resample(windows, sent[:, :2], sent[:, 2], side).clamp(0, 255)
        images = turn_each(blur(images, sent[:, 3]), sent[:, 4].long())
        return to_bytes(images).permute(0, 3, 1, 2)

    def sheet(self) -> NDArray[np.uint8]:
        """Eight samples: both large crops of each."""
        large = self.batch(SHEET, 8)["large"].cpu().numpy()
        rows = [np.concatenate(list(large[:, i].transpose(0, 2, 3, 1)), 1) for i in range(2)]
        return np.concatenate(rows, 0)

    def _patches(self, rng: np.random.Generator) -> Tensor:
        windows = self.drawer.draw(rng, BATCH, PATCH)
        return self.tissue.rgb(Squares.of(windows, self.deck.device)).float().div(127.5).sub(1)

    def groups(self, average: Weights) -> dict[str, Weights]:
        """All of it."""
        return {"embedder": average}


class CardAutoencoder(AutoencoderStage):
    """`AutoencoderStage` with its crops cut, stained and resampled on the device."""

    def __init__(self, config: AutoencoderTraining, deck: Deck, *, fresh: bool) -> None:
        self.config, self.deck = config, deck
        torch.manual_seed(config.loop.seed)
        model = PixelShuffleAutoencoder(config.model)
        self.tissue = Tissue(deck.pictures, deck.device)
        self.drawer = self.tissue.drawer(config.data, config.side * 5 // 4)
        if fresh:
            rgb = self.batch(START, 256)["rgb"].float().div(127.5).sub(1).cpu()
            cells = F.pixel_unshuffle(rgb, FACTOR).unflatten(1, (3, FACTOR, FACTOR))
            model.start_from_patches(cells.permute(0, 4, 5, 1, 2, 3).flatten(0, 2))
            self.model = deck.ready(model, AUTOENCODER_EXACT)
        else:
            self.model = deck.place(model, "autoencoder", AUTOENCODER_EXACT)

    def renew(self, _number: int, /) -> None:
        """Nothing to make: every crop is turned and stained on its own."""

    def refresh(self) -> None:
        """Nothing follows from this network while it trains."""

    def batch(self, number: int, count: int) -> Batch:
        """Crops `rgb` (n, 3, side, side) uint8 and the noise of their latents."""
        config, side, device = self.config, self.config.side, self.deck.device
        rng = generator(config.loop.seed, number)
        window = side * 5 // 4
        windows = self.drawer.draw(rng, count, window)
        rgb = self.tissue.rgb(Squares.of(windows, device)).float()
        cut = draw_cuts(rng, count, side, config.augment)
        corner = np.floor(rng.random((count, 2)) * (window - cut + 1)[:, None])
        strength = rng.uniform(0, config.loss.noise, count)
        told = np.column_stack([corner, cut, strength, rng.integers(0, 8, count)])
        sent = send(told.astype(np.float32), device)
        rgb = resample(rgb, sent[:, :2], sent[:, 2], side).clamp(0, 255)
        rgb = draw_bends(rng, count, config.augment, device).apply(rgb)
        rgb = to_bytes(turn_each(rgb, sent[:, 4].long())).permute(0, 3, 1, 2)
        shape = (count, config.model.latent_channels, side // FACTOR, side // FACTOR)
        noise = torch.randn(shape, generator=self.deck.noise(number), device=device)
        return {"rgb": rgb, "noise": noise * sent[:, 3, None, None, None]}

    def sheet(self) -> NDArray[np.uint8]:
        """Eight crops above their reconstructions."""
        rgb = self.batch(SHEET, 8)["rgb"]
        ours = self.model(rgb.float().div(127.5).sub(1)).float().add(1).mul(127.5)
        rows = [rgb.permute(0, 2, 3, 1), to_bytes(ours)]
        return np.concatenate([np.concatenate(list(r.cpu().numpy()), 1) for r in rows])

    @torch.no_grad()
    def finish(self) -> None:
        """Set mean and deviation so that latents of training crops are standard."""
        rgb = self.batch(FINISH, 256)["rgb"].float().div(127.5).sub(1)
        latents = self.model.encoder(rgb).float().transpose(0, 1).flatten(1)
        self.model.mean.copy_(latents.mean(1))
        self.model.std.copy_(latents.std(1))

    def groups(self, average: Weights) -> dict[str, Weights]:
        """All of it."""
        return {"autoencoder": average}


def draw_cuts(
    rng: np.random.Generator, count: int, side: int, config: AugmentConfig
) -> NDArray[np.float64]:
    """Pixels a side that crops are cut with before they are resampled to `side`."""
    zooms = [augment.draw_zoom(rng, config) for _ in range(count)]
    return np.floor(side * np.minimum(zooms, 1.25))


class CardZoom(ZoomStage):
    """`ZoomStage` with windows, parents and conditions gathered on the device."""

    def __init__(
        self, config: ZoomTraining, deck: Deck, number: int, *, fresh: bool, pixels: bool = False
    ) -> None:  # fmt: skip
        """`number` is the round's; `pixels` says whether batches carry the real pixels, too."""
        self.config, self.deck, self.pixels = config, deck, pixels
        torch.manual_seed(config.loop.seed)
        self.autoencoder = deck.autoencoder()
        self.renew(number)
        self.model = new_zoomldm(deck, config, fresh=fresh)
        self.renderer: Renderer | None = None
        if "renderer" in deck.weights:
            self.renderer = new_renderer(deck, deck.settled("distill").renderer)
        if fresh:
            batch = {k: v.cpu().numpy() for k, v in self.batch(START, 256).items()}
            fit_guess(self.model, [{k: v[i] for k, v in batch.items()} for i in range(256)])

    def renew(self, number: int, /) -> None:
        """Turn, stain, encode and embed all pictures again; parents are drawn by `refresh`."""
        self.tissue: Variants | None = None  # its memory is needed for the next
        self.tissue = self.deck.variants(number)
        self.drawers = {s: self.tissue.drawer(self.config.data, s) for s in self.config.sides}

    @property
    def round(self) -> Variants:
        """The variants at hand."""
        assert self.tissue is not None
        return self.tissue

    def refresh(self) -> None:
        """Draw the parents of level 0 anew, once there is something to draw with."""
        if self.config.parents.drawn > 0 and self.renderer is not None:
            with self.deck.autocast():
                redraw(self.round, self.model, self.renderer, self.deck.noise(START + 1))

    def batch(self, number: int, count: int) -> Batch:
        """Clean latent, noise, time, step, parent, conditioning and magnification."""
        config, device = self.config, self.deck.device
        rng, noise = generator(config.loop.seed, number), self.deck.noise(number)
        side = config.sides[number % len(config.sides)]
        windows = self.drawers[side].draw(rng, count, side, CELL)
        squares = Squares.of(windows, device)
        parent, has_parent = draw_parents(rng, noise, self.round, windows, config.parents)
        latent = self.round.latent(squares)
        pure, dropped = rng.random((2, count))
        t = np.where(pure < config.flow.pure, 1, rng.uniform(config.flow.earliest, 1, count))
        dt = np.minimum(t, rng.choice([1.0, 0.5, 0.25, 0.125], count))
        mag = self.round.mags[windows.place] + windows.level
        told = np.stack([t, dt, dropped >= config.flow.drop, mag]).astype(np.float32)
        sent = send(told, device)
        cond = self.round.conditions(squares) * sent[2, :, None, None, None]
        batch = {
            "latent": latent,
            "noise": torch.randn(latent.shape, generator=noise, device=device),
            "t": sent[0],
            "dt": sent[1],
            "parent": parent,
            "has_parent": has_parent,
            "cond": cond,
            "mag": sent[3].long(),
        }
        return batch | ({"rgb": self.round.rgb(squares)} if self.pixels else {})

    def sheet_batch(self) -> Batch:
        """A batch that is not trained on, always the same of a round."""
        return self.batch(SHEET, 6)

    def finish(self) -> None:
        """Nothing to complete."""

    def groups(self, average: Weights) -> dict[str, Weights]:
        """All of it."""
        return {"zoomldm": average}


class CardDistill(DistillStage):
    """`DistillStage` over `CardZoom`."""

    def __init__(self, config: DistillTraining, deck: Deck, number: int, *, fresh: bool) -> None:
        self.config, self.deck = config, deck
        self.flow: CardZoom = CardZoom(config.zoomldm, deck, number, fresh=fresh, pixels=True)
        torch.manual_seed(config.loop.seed)
        critic = Critic(config.zoomldm.model.summarizer.embedding_width + 1, config.critic)
        if "critic" in deck.weights:
            critic.load_state_dict(deck.weights["critic"])
        critic = deck.ready(critic, tuple(f"heads.{k}" for k in range(len(critic.heads))))
        self.flow.renderer = new_renderer(deck, config.renderer)
        self.model = channels_last(Trio(self.flow.model, self.flow.renderer, critic))

    def renew(self, number: int, /) -> None:
        """As the flow's; the encoder does not train, so latents keep their meaning."""
        self.flow.renew(number)

    def refresh(self) -> None:
        """As the flow's."""
        self.flow.refresh()

    def batch(self, number: int, count: int) -> Batch:
        """As the flow's, and a direction in which the critic should be flat."""
        device = self.deck.device
        batch = self.flow.batch(number, count)
        side = batch["rgb"].shape[-1] - 2 * BORDER
        noise = self.deck.noise(number + START)
        nudge = torch.randn((count, 3, side, side), generator=noise, device=device)
        side_to_cut = torch.full((count,), number % 2)  # at home: a branch asks for it
        return batch | {"nudge": nudge, "first": side_to_cut}

    def finish(self) -> None:
        """Nothing to complete."""

    def groups(self, average: Weights) -> dict[str, Weights]:
        """One group per network."""
        return {name: part(average, f"{name}.") for name in ("zoomldm", "renderer", "critic")}


def new_stage(planned: StagePlan, deck: Deck, number: int, *, fresh: bool) -> CardStage:
    """A stage of the plan with the tissue of round `number`, ready to train."""
    config = deck.config(planned)
    match planned.stage:
        case "embedder":
            return CardEmbedder(config, deck, fresh=fresh)
        case "autoencoder":
            return CardAutoencoder(config, deck, fresh=fresh)
        case "zoomldm":
            return CardZoom(config, deck, number, fresh=fresh)
        case _:
            return CardDistill(config, deck, number, fresh=fresh)
