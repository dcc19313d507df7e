"""The transformer: HIPT's tensors, positions, arithmetic and export."""

import json
import math

import pytest

pytest.importorskip("torch")

import torch
import torch.nn.functional as F

from wsicodec.errors import ConfigError
from wsicodec.models.vit import VisionTransformer, VitConfig

pytestmark = pytest.mark.torch
TINY = VitConfig(width=24, depth=2, heads=3, patch=16, train_size=224)


def hipt_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of HIPT's ViT-256 by the rule of zoomldm.md 2.1."""
    width, tokens = 384, (224 // 16) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + tokens, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for block in range(12):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for layer, (rows, columns) in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"] = (rows * width, columns * width)
            shapes[f"blocks.{block}.{layer}.bias"] = (rows * width,)
    return shapes


def test_small_16_has_the_tensors_of_hipt() -> None:
    state = VisionTransformer(VitConfig()).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == hipt_shapes()
    assert (len(state), sum(v.numel() for v in state.values())) == (150, 21_665_664)


def test_config_goes_through_json() -> None:
    assert VitConfig.from_json(json.loads(json.dumps(TINY.to_json()))) == TINY


@pytest.mark.parametrize(
    "record", [{"width": 25, "heads": 3}, {"train_size": 250}, {"depth": 0}, {"colour": 3}]
)
def test_config_refuses(record: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        VitConfig.from_json(record)


def written_out(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    """The same network from its tensors alone, one operation a line, in double precision."""
    width, heads = model.config.width, model.config.heads

    t: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        t[name] = value.double()

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    cells = images.double().unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4, 5)
    kernel = t["patch_embed.proj.weight"].flatten(1)
    tokens = cells.flatten(3).flatten(1, 2) @ kernel.T + t["patch_embed.proj.bias"]
    x = torch.cat((t["cls_token"].expand(len(images), 1, width), tokens), 1) + t["pos_embed"]
    for i in range(model.config.depth):
        name = f"blocks.{i}"
        q, k, v = linear(norm(x, f"{name}.norm1"), f"{name}.attn.qkv").split(width, -1)
        mixed = []
        for part in torch.arange(width).chunk(heads):
            score = q[..., part] @ k[..., part].transpose(1, 2) * (width // heads) ** -0.5
            mixed.append(score.softmax(-1) @ v[..., part])
        x = x + linear(torch.cat(mixed, -1), f"{name}.attn.proj")
        inner = linear(norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
        x = x + linear(gelu, f"{name}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_forward_is_the_published_arithmetic() -> None:
    model = VisionTransformer(TINY).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)  # norms and biases too
        images = torch.rand(2, 3, 224, 224) * 2 - 1
        ours = model(images)
    assert ours.shape == (2, 24)
    torch.testing.assert_close(ours.double(), written_out(model, images), atol=2e-4, rtol=0)


def test_positions_use_the_offset_scale() -> None:
    model = VisionTransformer(TINY)
    table = model.pos_embed[:, 1:].reshape(1, 14, 14, 24).permute(0, 3, 1, 2)
    factor = (16.1 / 14, 16.1 / 14)
    wanted = F.interpolate(table, scale_factor=factor, mode="bicubic").permute(0, 2, 3, 1)
    exact = F.interpolate(table, size=(16, 16), mode="bicubic").permute(0, 2, 3, 1)
    got = model.positions(256, 256)
    assert torch.equal(got[:, :1], model.pos_embed[:, :1])
    assert torch.equal(got[:, 1:], wanted.reshape(1, 256, 24))
    assert not torch.allclose(got[:, 1:], exact.reshape(1, 256, 24), atol=1e-4)


def test_positions_keep_rows_before_columns() -> None:
    model = VisionTransformer(TINY)
    with torch.no_grad():
        model.pos_embed.zero_()
        grid = model.pos_embed[0, 1:].view(14, 14, 24)
        grid[..., 0] = torch.arange(14.0)[:, None]  # grows downwards
        grid[..., 1] = torch.arange(14.0)  # grows to the right
        wide = model.positions(96, 256)[0, 1:].view(6, 16, 24)
    assert bool((wide[1:, :, 0] > wide[:-1, :, 0]).all())
    assert bool((wide[:, 1:, 1] > wide[:, :-1, 1]).all())


def test_sides_must_be_whole_patches() -> None:
    with pytest.raises(ConfigError, match="divisible by 16"):
        VisionTransformer(TINY)(torch.zeros(1, 3, 250, 256))


def test_at_size_is_the_same_network() -> None:
    model = VisionTransformer(TINY).eval()
    fixed = model.at_size(256)
    assert fixed.config.train_size == 256
    assert fixed.pos_embed.shape == (1, 257, 24)
    images = torch.rand(1, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        assert torch.equal(fixed(images), model(images))


def test_start_from_pixels_whitens() -> None:
    model = VisionTransformer(VitConfig(width=16, depth=1, heads=1, patch=4, train_size=8))
    mixing = torch.randn(48, 48)
    patches = (torch.randn(4000, 48) @ mixing + 3).view(-1, 3, 4, 4)
    model.start_from_pixels(patches)
    with torch.no_grad():
        first = model.patch_embed.proj(patches).flatten(1)
    torch.testing.assert_close(first.mean(0), torch.zeros(16), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cov(first.T), torch.eye(16) / 3, atol=1e-2, rtol=0)


def test_exports_without_interpolation() -> None:
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from wsicodec.train.export import check_graph, graph_without_weights

    module = VisionTransformer(TINY).at_size(256).eval()
    weights = module.state_dict()
    feeds = {"images": torch.rand(2, 3, 256, 256) * 2 - 1}
    graph = graph_without_weights(module, feeds, "vectors", weights, batch_is_free=True)
    nodes = {node.op_type for node in onnx.load_from_string(graph).graph.node}
    assert "Resize" not in nodes
    more = {"images": torch.rand(3, 3, 256, 256) * 2 - 1}
    assert check_graph(graph, module, more, weights) < 1e-4
