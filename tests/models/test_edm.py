"""The embedding diffusion model in NumPy: equal to its twin, and refusing what does not fit."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from wsicodec.errors import BundleError, ConfigError
from wsicodec.models import edm
from wsicodec.models.bundle import Bundle
from wsicodec.models.edm import PART, EdmNetwork, load_edm, rotations
from wsicodec.models.edm_config import CONTENT, OUTLINE, EdmConfig, octave_of_magnification, shapes
from wsicodec.models.stain_colours import StainColours

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


def test_a_sketch_is_linear_in_a_cell_and_its_neighbours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    side = CONFIG.sketch
    table = weights["sketch"].reshape(-1, side, side, 3)
    table[4 * CONFIG.channels + 1, ..., 0] = 10  # its own first coefficient: red
    table[3 * CONFIG.channels, :, 0, 2] = 99  # tissue to the left: blue at the left edge
    table[-1] = 50
    channels = np.zeros((3, 4, CONFIG.channels), np.float32)
    channels[..., 0] = -1
    channels[1, 1] = [1, 7, 0, 0]
    monkeypatch.setattr(edm, "SMOOTH", 0)
    network = EdmNetwork(CONFIG, weights)
    drawn = network.sketch(channels, np.zeros((3 * side, 4 * side), np.float32))
    assert drawn.shape == (3 * side, 4 * side, 3)
    np.testing.assert_array_equal(drawn[side + 1, side + 1], [120, 50, 50])
    np.testing.assert_array_equal(drawn[side, 2 * side], [50, 50, 149])
    np.testing.assert_array_equal(drawn[side, 2 * side + 1], [50, 50, 50])
    assert (drawn[:, 3 * side :] == 243).all()
    monkeypatch.setattr(edm, "SMOOTH", 2)
    smooth = network.sketch(channels, np.zeros((12 * side, 16 * side), np.float32))
    assert smooth.shape == (3 * network.sketch_side, 4 * network.sketch_side, 3)
    assert np.abs(np.diff(smooth.astype(int), axis=1)).max() < 0.5 * (243 - 50)


def test_known_glass_takes_the_place_of_what_would_be_guessed(
    rng: np.random.Generator,
) -> None:
    weights = random_weights(rng)
    weights["sketch"][-1] = 20
    network = EdmNetwork(CONFIG, weights)
    channels = np.zeros((5, 9, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(9) < 4, 1, -1)
    side = network.sketch_side
    grain = np.zeros((5 * side, 9 * side), np.float32)
    guessed, known = network.sketch(channels, grain), network.sketch(channels, grain, (99, 9, 7))
    tissue = np.minimum(guessed[:, : 3 * side], (99, 9, 7))
    np.testing.assert_array_equal(known[:, : 3 * side], tissue, "nothing is brighter than glass")
    assert (known[:, 6 * side :] == (99, 9, 7)).all()
    assert (guessed[:, 6 * side :] == 243).all()
    # Half a patch further in, the cubic has let go of all but 7 % of what lies beside it.
    assert np.abs(known[:, 4 * side + 4 : 5 * side].astype(int) - (99, 9, 7)).max() < 10
    assert (guessed[:, 4 * side + 2] < 100).all()


def test_patches_have_the_mean_colours_that_their_stains_tell(rng: np.random.Generator) -> None:
    table = np.zeros((4, 6), np.float32)
    table[0, :3] = 0.3  # more of the first coefficient is darker
    table[-1] = 0.6, 0.9, 0.5, -2, -2, -2
    stains = StainColours(table, "0" * 64)
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["sketch"][-1] = 200  # what a linear map would say
    weights["deviation"][:] = 1
    network = EdmNetwork(CONFIG, weights, stains=stains)
    channels = np.zeros((12, 12, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(12) < 8, 1, -1)
    channels[:, :8, 1] = rng.uniform(-1, 1, (12, 8))
    side = network.sketch_side
    drawn = network.sketch(channels, np.zeros((12 * side, 12 * side), np.float32), (240, 240, 240))
    means = drawn.reshape(12, side, 12, side, 3).mean((1, 3))
    told = stains.of(channels[..., 1:])
    assert np.ptp(told[:, :8, 0]) > 50
    # Two rounds leave some percent of how much patches differ, beside glass as between tissue.
    assert np.abs(means - told)[:, :8].mean() < 0.03 * np.ptp(told[:, :8])
    assert (drawn[:, 10 * side :] == 240).all()


def test_the_digest_of_a_sketch_covers_what_it_is_computed_with(
    rng: np.random.Generator,
) -> None:
    weights = random_weights(rng)
    digest = EdmNetwork(CONFIG, weights).sketch_digest
    for name in ("mean", "deviation", "sketch", "grain", "stain"):
        other = weights | {name: weights[name] + 1}
        assert EdmNetwork(CONFIG, other).sketch_digest != digest
    stains = StainColours(np.zeros((4, 6), np.float32), "0" * 64)
    assert EdmNetwork(CONFIG, weights, stains=stains).sketch_digest != digest
    retrained = weights | {"last": weights["last"] + 1}
    assert EdmNetwork(CONFIG, retrained).sketch_digest == digest
    assert EdmNetwork(CONFIG, weights).sketch_level == 5


def test_grain_has_the_amplitude_and_the_colour_that_it_is_given(rng: np.random.Generator) -> None:
    weights = {k: np.zeros(s, np.float32) for k, s in shapes(CONFIG).items()}
    weights["sketch"][-1] = 128
    weights["grain"][-1] = 12
    weights["stain"][:] = 1, 0.5, 0
    channels = np.zeros((8, 9, CONFIG.channels), np.float32)
    channels[..., 0] = np.where(np.arange(9) < 6, 1, -1)
    network = EdmNetwork(CONFIG, weights)
    grain = rng.normal(size=(8 * network.sketch_side, 9 * network.sketch_side))
    drawn = network.sketch(channels, grain.astype(np.float32)).astype(float) - 128
    inner = drawn[8:-8, 8 : 4 * network.sketch_side]
    # 24 x 24 pixels and more, neighbours correlated by 0.44: a deviation is within 10 %.
    assert inner[..., 0].std() == pytest.approx(12, rel=0.15)
    assert inner[..., 1].std() == pytest.approx(6, rel=0.15)
    assert not inner[..., 2].any()
    steps = inner[:, 1:, 0] * inner[:, :-1, 0]
    assert steps.mean() / inner[..., 0].var() == pytest.approx(0.44, abs=0.1)
    assert not np.ptp(drawn[:, -4:], axis=0).any()  # glass has no grain


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


@pytest.mark.parametrize(
    "change",
    [{"width": 12}, {"window": 6}, {"depth": 0}, {"sketch": 0}, {"sketch": 1}, {"sketch": 3}],
)
def test_impossible_sizes_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="multiple of four times the heads"):
        EdmConfig.from_json({**CONFIG.to_json(), **change})
