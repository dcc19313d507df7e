"""The embedding diffusion model in NumPy: equal to its twin, and refusing what does not fit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wsicodec.errors import BundleError, ConfigError
from wsicodec.models.bundle import Bundle
from wsicodec.models.edm import PART, EdmNetwork, load_edm, rotations
from wsicodec.models.edm_config import CONTENT, OUTLINE, EdmConfig, octave_of_magnification, shapes

CONFIG = EdmConfig(components=3, width=16, depth=2, heads=2, mlp_ratio=2, octaves=2, window=8)


def random_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {k: rng.normal(0, 0.2, s).astype(np.float32) for k, s in shapes(CONFIG).items()}


def make_bundle(folder: Path, weights: dict[str, np.ndarray] | None) -> Bundle:
    folder.mkdir()
    config = {"format": 1, "name": "fake", "files": {}}
    if weights is not None:
        part = save(weights)
        (folder / PART).write_bytes(part)
        config |= {"edm": CONFIG.to_json(), "files": {PART: hashlib.sha256(part).hexdigest()}}
    (folder / "bundle.json").write_text(json.dumps(config))
    return Bundle(folder)


@pytest.mark.torch
@pytest.mark.parametrize("phase", [OUTLINE, CONTENT])
@pytest.mark.parametrize("alone", [True, False])
def test_it_answers_as_its_twin_does(rng: np.random.Generator, phase: int, alone: bool) -> None:
    torch = pytest.importorskip("torch")
    from wsicodec.train.edm_network import TrainableEdm

    weights = random_weights(rng)
    twin = TrainableEdm(CONFIG)
    twin.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
    x, parent = rng.normal(size=(2, 2, 8, 8, 4)).astype(np.float32)
    inside = rng.random((2, 8, 8)) < 0.7
    ours = EdmNetwork(CONFIG, weights).clean(x, 0.6, phase, 1, None if alone else parent, inside)
    told = [torch.full((2,), v) for v in (0.6, phase, 1)]
    with torch.no_grad():
        theirs, _ = twin(
            torch.from_numpy(x),
            *told,
            torch.from_numpy(parent),
            torch.full((2,), float(not alone)),
            torch.from_numpy(inside.astype(np.float32)),
        )
    # Sums of some hundred products in float32, in another order.
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5 * np.abs(ours).max())


@pytest.mark.torch
def test_the_list_of_shapes_is_that_of_the_twin() -> None:
    pytest.importorskip("torch")
    from wsicodec.train.edm_network import TrainableEdm

    state = TrainableEdm(CONFIG).state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == shapes(CONFIG)


def test_without_weights_it_answers_as_a_gaussian_does(rng: np.random.Generator) -> None:
    still = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    x = rng.normal(size=(1, 8, 8, 4)).astype(np.float32)
    inside = np.ones((1, 8, 8), bool)
    clean = EdmNetwork(CONFIG, still).clean(x, 0.25, OUTLINE, 0, None, inside)
    # E[z | x] = (1 - t) / ((1 - t)^2 + t^2) x for z of unit variance.
    np.testing.assert_allclose(clean, 0.75 / (0.75**2 + 0.25**2) * x, rtol=1e-6)


def test_attention_sees_differences_of_places_only(rng: np.random.Generator) -> None:
    cosines, sines = rotations(4, 5, 8)
    assert cosines.shape == (20, 4)
    q, k = rng.normal(size=(2, 8)).astype(np.float32)

    def turned(v: np.ndarray, y: int, x: int) -> np.ndarray:
        a, b = v[:4], v[4:]
        c, s = cosines[5 * y + x], sines[5 * y + x]
        return np.concatenate([a * c - b * s, a * s + b * c])

    near = turned(q, 0, 1) @ turned(k, 2, 3)
    far = turned(q, 1, 2) @ turned(k, 3, 4)
    other = turned(q, 0, 1) @ turned(k, 3, 2)
    assert near == pytest.approx(far, rel=1e-5)
    assert near != pytest.approx(other, rel=1e-3)


def test_magnifications_share_octaves_below_one_patch_a_cell() -> None:
    assert [octave_of_magnification(m) for m in range(8)] == [0, 0, 0, 0, 1, 2, 3, 4]


def test_a_bundle_gives_its_model(tmp_path: Path, rng: np.random.Generator) -> None:
    weights = random_weights(rng)
    network = load_edm(make_bundle(tmp_path / "b", weights))
    assert network.config == CONFIG
    np.testing.assert_array_equal(network.mean, weights["mean"])
    assert len(network.digest) == 64


def test_a_bundle_without_one_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no edm\.safetensors.*stage `edm`"):
        load_edm(make_bundle(tmp_path / "b", None))


def test_tensors_of_other_sizes_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    weights = random_weights(rng) | {"mean": np.zeros((3, 3), np.float32)}
    with pytest.raises(BundleError, match=r"mean of shape \(2, 3\), got \(3, 3\)"):
        load_edm(make_bundle(tmp_path / "b", weights))


@pytest.mark.parametrize("change", [{"width": 12}, {"window": 6}, {"depth": 0}])
def test_impossible_sizes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="multiple of four times the heads"):
        EdmConfig.from_json({**CONFIG.to_json(), **change})
