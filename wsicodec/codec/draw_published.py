"""From a parent's pixels and embeddings to a tile, as the published models draw them.

A tile is one patch of the model: 256 x 256 px over the 2^k x 2^k embeddings under it, without a
halo, because that is all that the networks were trained on. At the top it is drawn from noise;
below, from the quarter of its parent that it covers, enlarged and noised to trained step 500.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from wsicodec.codec.draw import Pixels, View, Window
from wsicodec.diffusion import solvers
from wsicodec.diffusion.guidance import scale_of_settings
from wsicodec.diffusion.noise import noise_field
from wsicodec.diffusion.windows import cells_under
from wsicodec.errors import BundleError, ConfigError
from wsicodec.geometry import Region
from wsicodec.models.bundle import Bundle

if TYPE_CHECKING:
    from wsicodec.zoomldm.model import PublishedModel

PUBLISHED_VIEW = View(0, cells_under)
START = 500  # trained step at which a child begins, unless the bundle says otherwise
SOLVERS: dict[str, Callable[..., Any]] = {
    "ddim": solvers.ddim,
    "plms": solvers.plms,
    "dpm-solver++": solvers.dpm_solver_2m,
}


@dataclass(frozen=True, slots=True)
class PublishedRecipe:
    """How patches are drawn: equal for all pixels of a slide."""

    slide: str  # digest; keys the noise
    steps: int  # of the whole way from noise
    stride: int  # trained steps from one evaluation to the next
    start: int  # trained step at which a child begins
    scale: float  # of guidance, s in eps_u + s (eps_c - eps_u)
    solver: Callable[..., Any]
    glass: NDArray[np.float32]  # (d,) what stands for cells without tissue

    @classmethod
    def of(cls, bundle: Bundle, slide: str, steps: int) -> Self:
        """The recipe that a bundle's settings ask for.

        Args:
            bundle: of a published family.
            slide: the slide's digest.
            steps: of the whole way; must divide the trained steps, and the start by its stride.

        Raises:
            ConfigError: such a number of steps, or ambiguous guidance.
            BundleError: an unknown sampler.
        """
        schedule = bundle.config["schedule"]
        length, start = int(schedule["length"]), int(schedule.get("start_step", START))
        if not 0 < steps < length or length % steps or start % (length // steps):
            raise ConfigError(
                f"expected a number of steps that divides {length} and whose stride divides "
                f"{start}, such as 50, 20 or 10, got {steps}"
            )
        sampler = str(schedule.get("sampler", "ddim"))
        if sampler not in SOLVERS:
            raise BundleError(
                f"expected one of {', '.join(SOLVERS)} as sampler of {bundle.name}, got {sampler!r}"
            )
        scale = scale_of_settings(schedule)
        stride = length // steps
        return cls(slide, steps, stride, start, scale, SOLVERS[sampler], glass_of(bundle))


def check_backend(bundle: Bundle, backend: str) -> None:
    """Raise BundleError unless the published networks can run as a reader wants."""
    if backend == "onnx" or not find_spec("torch"):
        raise BundleError(
            f"bundle {bundle.name} of family {bundle.family} is drawn with PyTorch only; "
            "install wsicodec[torch] and read with backend auto or torch"
        )


def load_model(bundle: Bundle) -> "PublishedModel":
    """The networks of a bundle of a published family, on a card if there is one.

    Raises:
        BundleError: a part of the bundle is missing or damaged.
    """
    bundle.require("decode")
    from wsicodec.models.torch_backend import device
    from wsicodec.zoomldm.model import load_published

    return load_published(bundle, device())


def glass_of(bundle: Bundle) -> NDArray[np.float32]:
    """The embedding (d,) of glass, or zeros where no embedder was at hand to tell it."""
    if "glass.safetensors" in bundle.config["files"]:
        return bundle.weights("glass.safetensors")["glass"]
    return np.zeros(bundle.embedding_width, np.float32)


def draw_published(
    model: "PublishedModel", recipe: PublishedRecipe, windows: list[Window]
) -> list[Pixels]:
    """Draw the tiles of up to `model.batch` windows of one level of a slide.

    Returns:
        One (256, 256, 3) tile per window.
    """
    from wsicodec.zoomldm.draw import draw_children, draw_patches

    padded = windows + windows[:1] * (model.batch - len(windows))
    grids = [_over_glass(window.embeddings, recipe.glass) for window in padded]
    noise = np.stack([_noise(model, recipe, window) for window in padded])
    magnification = windows[0].magnification
    parents = [window.parent for window in padded if window.parent is not None]
    with model.one_thread():
        if len(parents) < len(padded):
            drawn = draw_patches(
                model,
                grids,
                magnification,
                noise,
                steps=recipe.steps,
                scale=recipe.scale,
                solver=recipe.solver,
            )
        else:
            drawn = draw_children(
                model,
                grids,
                magnification,
                parents,
                noise,
                scale=recipe.scale,
                solver=recipe.solver,
                start=recipe.start,
                stride=recipe.stride,
            )
    return list(drawn[: len(windows)])


def _over_glass(cells: NDArray[np.float32], glass: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embeddings (h, w, d) from (h, w, d + 1), the last channel telling where there is one."""
    return np.where(cells[..., -1:] > 0, cells[..., :-1], glass)


def _noise(model: "PublishedModel", recipe: PublishedRecipe, window: Window) -> NDArray[np.float32]:
    channels, side, _ = model.latent_shape
    place = Region(window.ty, window.tx, window.ty + 1, window.tx + 1).scale_up(side)
    return noise_field(recipe.slide, window.level, place, channels)
