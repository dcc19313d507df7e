"""Self-distillation without labels: a student must say of a crop what its average says of another.

    crops -> student backbone -> head -> softmax(. / 0.1) ------------------+
    large crops -> teacher backbone -> head -> sharpen, balance ------------+-> cross-entropy

The teacher is a moving average of the student (Caron et al. 2021). What keeps it from collapsing
is balancing: Sinkhorn's iterations spread each batch evenly over the prototypes (Caron et al.
2020; Oquab et al. 2023 put them in the place of DINO's centring). With batches of 32 centring
swung between a few prototypes and never settled; balancing does.

Patches here are counted in thousands, not in hundreds of millions, so light helpers stand beside
it: a linear read-out of the crop's own layout, texture, stain and tint, which the vector should
tell (hand-made targets teach in few samples; Wei et al. 2022), and a spread term (KoLeo,
Sablayrolles et al. 2019).
"""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsicodec.models.octaves import OCTAVES
from wsicodec.models.stain_colours import FAINTEST
from wsicodec.models.stain_statistics import (
    CHANNELS,
    TINT,
    octave_energies,
    optical_density,
    tint,
)
from wsicodec.models.vit import VisionTransformer, VitConfig

THUMBNAIL = 8  # cells a side of the optical density that is read out
TEXTURE = 4  # cells a side of the octave energies that are read out
QUANTILES = 8  # of the whole crop's density
READOUT = (
    3 * THUMBNAIL**2,
    len(CHANNELS) * OCTAVES * (TEXTURE**2 + 1),
    len(CHANNELS) * QUANTILES,
    TINT,
)


@dataclass(frozen=True, slots=True)
class DinoConfig:
    """Sizes, temperatures and weights of the distillation."""

    prototypes: int = 1024
    hidden: int = 512  # width of the head's two hidden layers
    bottleneck: int = 128  # width of what is compared with the prototypes
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    teacher_life: tuple[float, float] = (0.05, 2000.0)  # share of what was seen, at most patches
    distil: float = 1.0  # weight of the cross-entropy
    density: float = 1.0  # weight of the read-out: of layout, texture, stain and tint alike
    spread: float = 0.1  # weight of the spread term


class Head(nn.Module):
    """Vectors to prototype scores: three layers, then cosines with every prototype."""

    def __init__(self, width: int, config: DinoConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.bottleneck),
        )
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, config.bottleneck))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, width) to (n, prototypes) in [-1, 1]."""
        return F.linear(F.normalize(self.mlp(x), dim=-1), F.normalize(self.prototypes, dim=-1))


class Distillation(nn.Module):
    """Student, teacher and the losses between them."""

    def __init__(self, vit: VitConfig, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        self.student = VisionTransformer(vit)
        self.head = Head(vit.width, config)
        self.readout = nn.Linear(vit.width, sum(READOUT))
        self.teacher = copy.deepcopy(self.student).requires_grad_(requires_grad=False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(requires_grad=False)

    @torch.no_grad()
    def follow(self, patches: int, seen: int) -> None:
        """Move the teacher towards the student after `patches` more, `seen` in all."""
        share, most = self.config.teacher_life
        life = min(most, max(share * seen, 1.0))
        keep = 0.5 ** (patches / life)
        pairs = ((self.teacher, self.student), (self.teacher_head, self.head))
        for slow, fast in pairs:
            for mine, theirs in zip(slow.parameters(), fast.parameters(), strict=True):
                mine.lerp_(theirs, 1 - keep)

    def loss(self, large: Tensor, small: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and its terms for crops in [-1, 1].

        large: (n, g, 3, h, w), seen by both networks
        small: (n, l, 3, h', w'), seen by the student only
        """
        config, (count, views) = self.config, large.shape[:2]
        with torch.no_grad():
            scores = self.teacher_head(self.teacher.token(large.flatten(0, 1)))
            target = balanced(scores / config.teacher_temperature).unflatten(0, (count, views))
        vectors = self.student.token(large.flatten(0, 1)).unflatten(0, (count, views))
        others = self.student.token(small.flatten(0, 1)).unflatten(0, (count, small.shape[1]))
        every = torch.cat((vectors, others), 1)
        said = (self.head(every) / config.student_temperature).log_softmax(-1)
        distil = cross_entropy(target, said)
        density = readout_loss(
            self.readout(vectors.flatten(0, 1)), readout_target(large.flatten(0, 1))
        )
        spread = spread_loss(vectors[:, 0])
        loss = config.distil * distil + config.density * density + config.spread * spread
        entropy = -(target * target.clamp_min(1e-12).log()).sum(-1).mean()
        marginal = target.mean((0, 1))
        used = (marginal * marginal.clamp_min(1e-12).log()).sum().neg().exp()
        terms = {"distil": distil, "density": density, "spread": spread}
        terms |= {"entropy": entropy, "used": used}
        return loss, {name: value.detach() for name, value in terms.items()}


def balanced(scores: Tensor, rounds: int = 3) -> Tensor:
    """Probabilities (n, p) near exp(scores) whose columns share the batch evenly (Cuturi 2013)."""
    shares = torch.exp(scores - scores.max())
    for _ in range(rounds):
        shares = shares / shares.sum(0, keepdim=True).clamp_min(1e-30) / shares.shape[1]
        shares = shares / shares.sum(1, keepdim=True).clamp_min(1e-30) / shares.shape[0]
    return shares * shares.shape[0]


def cross_entropy(target: Tensor, said: Tensor) -> Tensor:
    """Mean cross-entropy over pairs of different views (Caron et al. 2021, eq. 3).

    target: (n, g, p) probabilities of the teacher
    said: (n, v, p) log-probabilities of the student, whose first g views are the teacher's
    """
    pairs = -torch.einsum("ngp,nvp->gv", target, said) / len(target)
    others = 1 - torch.eye(*pairs.shape, device=pairs.device)
    return (pairs * others).sum() / others.sum()


def readout_loss(said: Tensor, target: Tensor) -> Tensor:
    """Mean over layout, texture, stain and tint of the smooth absolute error of each."""
    pairs = zip(said.split(READOUT, 1), target.split(READOUT, 1), strict=True)
    return torch.stack([F.smooth_l1_loss(a, b, beta=0.5) for a, b in pairs]).mean()


def readout_target(images: Tensor) -> Tensor:
    """What of a crop (n, 3, h, w) in [-1, 1] its vector should tell: (n, sum(READOUT)).

    Layout: the optical density of THUMBNAIL x THUMBNAIL cells. Texture: log energies of the finest
    octaves of CHANNELS, in the whole crop and in TEXTURE x TEXTURE cells. Stain: quantiles of
    CHANNELS over the crop. Tint: see `tint`. All scaled to a deviation near one.
    """
    density = optical_density(images)
    thumbnail = F.adaptive_avg_pool2d(density, THUMBNAIL)
    stains, energies = density[:, CHANNELS], []
    levels = torch.linspace(0.02, 0.98, QUANTILES, device=images.device)
    quantiles = stains.flatten(2).sort(-1).values[..., (levels * stains[0, 0].numel()).long()]
    for detail in octave_energies(stains):
        cells = (F.adaptive_avg_pool2d(detail, side) for side in (1, TEXTURE))
        energies += [cell.add(FAINTEST).log().flatten(1) + 5 for cell in cells]
    layout, stain = (((part - 0.5) / 0.35).flatten(1) for part in (thumbnail, quantiles))
    return torch.cat([layout, *energies, stain, tint(density)], 1)


def spread_loss(vectors: Tensor) -> Tensor:
    """Mean negative log distance to the nearest neighbour on the sphere (KoLeo), (n, d) vectors."""
    unit = F.normalize(vectors, dim=-1)
    with torch.no_grad():
        alike = unit @ unit.T - 2 * torch.eye(len(unit), device=unit.device)
        nearest = alike.argmax(1)
    return -torch.log((unit - unit[nearest]).norm(dim=-1) + 1e-4).mean()
