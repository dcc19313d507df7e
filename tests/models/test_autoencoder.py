import pytest

pytest.importorskip("torch")

import torch

from wsicodec.errors import ConfigError
from wsicodec.models.autoencoder import AutoencoderConfig, PixelShuffleAutoencoder

SMALL = AutoencoderConfig(4, (8, 8, 8), (1, 1, 1), (1, 1, 1))


def awake(module: PixelShuffleAutoencoder) -> PixelShuffleAutoencoder:
    """The module with nothing at zero, so that every path counts."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


def test_shapes_and_standard_latents() -> None:
    model = awake(PixelShuffleAutoencoder(SMALL))
    rgb = torch.rand(2, 3, 64, 96) * 2 - 1
    plain = model.encode(rgb)
    assert plain.shape == (2, 4, 8, 12)
    assert model.decode(plain).shape == rgb.shape
    before = model(rgb)
    model.mean.copy_(torch.arange(4.0))
    model.std.copy_(torch.tensor([0.5, 1, 2, 3]))
    torch.testing.assert_close(model.encode(rgb)[:, 3], (plain[:, 3] - 3) / 3)
    torch.testing.assert_close(model(rgb), before, rtol=1e-4, atol=1e-5)


def test_principal_components_reproduce_what_they_span() -> None:
    patches = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    basis = torch.randn(4, 192) * 0.1
    model = PixelShuffleAutoencoder(SMALL)
    flat = (patches @ basis + 0.2).reshape(-1, 3, 8, 8)
    model.start_from_patches(flat)
    latent = model.encode(flat)
    torch.testing.assert_close(model.decode(latent), flat, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(latent.std(0).flatten(), torch.ones(4), rtol=0.05, atol=0.01)


def test_decoding_commutes_with_shifts_away_from_borders() -> None:
    model = awake(PixelShuffleAutoencoder(SMALL))
    latent = torch.randn(1, 4, 24, 24)
    whole, part = model.decode(latent), model.decode(latent[:, :, 4:, 4:])
    torch.testing.assert_close(whole[..., 96:160, 96:160], part[..., 64:128, 64:128])


def test_the_default_is_cheap_to_decode() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model = PixelShuffleAutoencoder(AutoencoderConfig(16))
        latent, rgb = torch.empty(1, 16, 32, 32), torch.empty(1, 3, 256, 256)
    with FlopCounterMode(display=False) as decoding:
        model.decode(latent)
    with FlopCounterMode(display=False) as encoding:
        model.encode(rgb)
    assert decoding.get_total_flops() <= 3.5e9
    assert encoding.get_total_flops() <= 4e9


def test_configuration_travels_as_json() -> None:
    assert AutoencoderConfig.from_json(SMALL.to_json()) == SMALL
    with pytest.raises(ConfigError, match="AutoencoderConfig"):
        AutoencoderConfig.from_json({"latents": 3})
