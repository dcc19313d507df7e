"""The VQ autoencoder: what is quantised, when, and where its cells lie."""

import pytest

torch = pytest.importorskip("torch")

from wsicodec.models.published.vq import Downsample, VqAutoencoder, VqConfig  # noqa: E402

pytestmark = pytest.mark.torch

SMALL = VqConfig(codes=64, width=32, multipliers=(1, 1, 2), blocks=1)


@pytest.fixture
def small() -> VqAutoencoder:
    return VqAutoencoder(SMALL).eval()


def test_the_nearest_code_is_nearest(small: VqAutoencoder) -> None:
    latent = torch.randn(2, 3, 5, 4)
    cells = latent.permute(0, 2, 3, 1).reshape(-1, 3)
    codes = small.quantize.embedding.weight
    expected = (cells[:, None] - codes[None]).square().sum(-1).argmin(1)
    assert torch.equal(small.quantize.nearest(latent).flatten(), expected)
    quantised = small.quantize(latent)
    assert torch.equal(quantised[1, :, 4, 2], codes[expected.view(2, 5, 4)[1, 4, 2]])


def test_encoding_is_continuous_and_decoding_quantises_anew(small: VqAutoencoder) -> None:
    latent = small.encode(torch.rand(1, 3, 32, 48) * 2 - 1)
    assert latent.shape == (1, 3, 8, 12)
    assert small.factor == 4
    quantised = small.quantize(latent)
    assert not torch.allclose(latent, quantised, atol=1e-3)
    assert torch.equal(small.decode(latent), small.decode(quantised))
    moved = latent + 1e-6 * torch.randn_like(latent)
    assert torch.equal(small.quantize.nearest(moved), small.quantize.nearest(latent))
    assert torch.equal(small.decode(moved), small.decode(latent))


def test_downsampling_pads_on_the_right_and_at_the_bottom() -> None:
    layer, image = Downsample(1), torch.zeros(1, 1, 4, 4)
    torch.nn.init.zeros_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    layer.conv.weight[0, 0, 0, 0] = 1  # the corner that a symmetric padding would shift
    image[0, 0, 0, 2] = 1
    assert layer(image)[0, 0].tolist() == [[0, 1], [0, 0]]


def test_settings_travel() -> None:
    assert VqConfig.from_json(SMALL.to_json()) == SMALL
