"""The renderer begins as an enlargement of the parent and never forgets it."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wsicodec.models.renderer import Renderer, RendererConfig  # noqa: E402
from wsicodec.resample import double  # noqa: E402

SMALL = RendererConfig(latent_channels=4, widths=(8, 8, 8), blocks=(1, 1, 1))


def _inputs(cells: int, seed: int = 0) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(2, 4, cells, cells, generator=generator)
    parent = torch.rand(2, 3, 4 * cells, 4 * cells, generator=generator) * 2 - 1
    return latent, parent, torch.ones(2), torch.zeros(2, dtype=torch.int64)


def _disturbed(model: Renderer) -> Renderer:
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "last" in name or "conv2" in name:
                value.normal_(0, 0.1)
    return model.eval()


def test_it_starts_as_the_parent_enlarged_as_the_format_does() -> None:
    inputs = _inputs(6)
    with torch.no_grad():
        drawn = Renderer(SMALL)(*inputs)
    for image, parent in zip(drawn, inputs[1], strict=True):
        wanted = double(parent.permute(1, 2, 0).numpy())
        inner = np.s_[4:-4, 4:-4]
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy()[inner], wanted[inner], atol=1e-5)


def test_without_a_parent_its_pixels_are_not_looked_at() -> None:
    torch.manual_seed(0)
    model = _disturbed(Renderer(SMALL))
    latent, parent, _, mag = _inputs(6)
    with torch.no_grad():
        one = model(latent, parent, torch.zeros(2), mag)
        other = model(latent, torch.zeros_like(parent), torch.zeros(2), mag)
    torch.testing.assert_close(one, other)


def test_a_shift_of_everything_shifts_the_picture() -> None:
    torch.manual_seed(0)
    model = _disturbed(Renderer(SMALL))
    latent, parent, flag, mag = _inputs(12)
    with torch.no_grad():
        whole = model(latent, parent, flag, mag)
        part = model(latent[..., 2:, 2:], parent[..., 8:, 8:], flag, mag)
    torch.testing.assert_close(part[..., 48:-48, 48:-48], whole[..., 64:-48, 64:-48])


@pytest.mark.parametrize("told", ["latent", "parent", "magnification"])
def test_everything_told_is_used(told: str) -> None:
    torch.manual_seed(0)
    model = _disturbed(Renderer(SMALL))
    latent, parent, flag, mag = _inputs(6)
    other = {"latent": latent + 1, "parent": parent * 0.5, "magnification": mag + 3}[told]
    with torch.no_grad():
        before = model(latent, parent, flag, mag)
        after = model(
            other if told == "latent" else latent,
            other if told == "parent" else parent,
            flag,
            other if told == "magnification" else mag,
        )
    assert (before - after).abs().mean() > 1e-3


def test_the_detail_is_scaled_and_its_colours_once_more() -> None:
    torch.manual_seed(0)
    renderer = Renderer(RendererConfig(4, (8, 8, 8), (1, 1, 1))).eval()
    torch.nn.init.normal_(renderer.last.weight)
    torch.nn.init.normal_(renderer.last.bias)
    given = torch.randn(1, 4, 8, 8), torch.zeros(1, 3, 32, 32), torch.ones(1), torch.tensor([0])
    with torch.no_grad():
        before = renderer(*given)
        renderer.scale_detail(2.0, 0.5)
        after = renderer(*given)
    grey = before.mean(1, keepdim=True)
    torch.testing.assert_close(after, 2 * grey + (before - grey), atol=1e-5, rtol=1e-4)
