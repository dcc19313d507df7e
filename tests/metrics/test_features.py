"""Networks as extractors: what goes in, what must come out."""

from pathlib import Path

import numpy as np
import pytest

from wsicodec.errors import ConfigError
from wsicodec.metrics.features import Extractor, from_module, from_onnx, held_out, require_judges


def _means(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(pixels.mean((1, 2)))


def test_batches_are_joined(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (37, 8, 8, 3), np.uint8)
    assert np.array_equal(Extractor("means", _means)(pixels), _means(pixels))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8), np.zeros((0, 8, 8, 3), np.uint8)],
    ids=["floats", "one picture", "none"],
)
def test_other_pixels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="uint8"):
        Extractor("means", _means)(pixels)


def test_planes_are_no_features() -> None:
    plane = Extractor("plane", lambda pixels: pixels.astype(float))
    with pytest.raises(ConfigError, match="pool"):
        plane(np.zeros((2, 8, 8, 3), np.uint8))


def test_the_conditioning_embedder_may_not_judge_alone() -> None:
    own = Extractor("embedder", _means, conditions=True)
    require_judges([own, Extractor("means", _means)])
    for judges in ([own], []):
        with pytest.raises(ConfigError, match="held-out"):
            require_judges(judges)


@pytest.mark.torch
def test_a_module_sees_one_to_minus_one(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")

    class Means(torch.nn.Module):  # type: ignore[misc,name-defined]
        def forward(self, x: "torch.Tensor") -> "torch.Tensor":  # type: ignore[name-defined]
            return x.mean((2, 3))

    pixels = rng.integers(0, 256, (3, 8, 12, 3), np.uint8)
    found = from_module("means", Means())(pixels)
    assert found == pytest.approx(_means(pixels) / 127.5 - 1, abs=1e-6)


def test_an_onnx_file_gives_its_first_output(tmp_path: Path, rng: np.random.Generator) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    axes = onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes")
    kinds = [("x", ["n", 3, "h", "w"]), ("y", ["n", 3])]
    ends = [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, s) for k, s in kinds]
    graph = helper.make_graph([node], "means", ends[:1], ends[1:], [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path = tmp_path / "means.onnx"
    path.write_bytes(model.SerializeToString())
    pixels = rng.integers(0, 256, (3, 8, 12, 3), np.uint8)
    extract = from_onnx(path)
    assert extract.name == "means"
    assert extract(pixels) == pytest.approx(_means(pixels) / 127.5 - 1, abs=1e-6)


def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "not.onnx").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="ONNX file"):
        from_onnx(tmp_path / "not.onnx")


@pytest.mark.torch
def test_the_shipped_encoder_tells_blur_from_tissue(fields: list[np.ndarray]) -> None:
    """Further apart than one half of the clean tiles is from the other."""
    pytest.importorskip("torch")
    from wsicodec.metrics.degrade import blur
    from wsicodec.metrics.distances import frechet_distance
    from wsicodec.metrics.pictures import cut_patches

    extract = held_out()
    tiles = np.concatenate([cut_patches(rgb, 128) for rgb in fields])[:48]
    clean, blurred = extract(tiles), extract(np.stack([blur(t, 2.0) for t in tiles]))
    assert clean.shape[1] >= 128
    apart = frechet_distance(clean, blurred)
    assert apart > 2 * frechet_distance(clean[::2], clean[1::2])
