"""The end-to-end benchmark's own parts."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_the_bundle_is_read_without_its_library() -> None:
    from benchmarks.kernel_small import PlainBundle
    from wsicodec.models.bundle import DEFAULT_BUNDLE, EMBEDDED, load_bundle

    plain = PlainBundle(EMBEDDED / DEFAULT_BUNDLE)
    for part in ("zoomldm.safetensors", "renderer.safetensors", "autoencoder.safetensors"):
        wanted = load_bundle().tensors(part)
        got = plain.tensors(part)
        assert set(got) == set(wanted)
        for name, values in wanted.items():
            np.testing.assert_array_equal(got[name], values)


def test_every_target_is_measured_by_the_programme() -> None:
    """Under the names that it looks for; a goal that nothing measures would never be missed."""
    from benchmarks import kernel_speed
    from benchmarks.kernel_cases import Draw
    from benchmarks.kernel_forward import DECODER, UNET
    from benchmarks.kernel_rounds import Stand
    from benchmarks.kernel_targets import SMALL, TARGETS

    stand = Stand(Draw("cuda", torch.bfloat16))
    planned = {(e.title, e.setting(stand)) for e in kernel_speed.programme(stand, toy=False)}
    for target in TARGETS:
        if target.subject != SMALL:
            batch = ", ".join(target.setting.split(", ")[:2])
            assert (target.subject, batch) in planned, target
    compiled = {e.title for e in kernel_speed.programme(stand, toy=False) if e.compiles}
    assert {UNET, "condition 384 wide, 1024 tokens"} <= compiled
    assert {t.subject for t in TARGETS} >= {UNET, DECODER, SMALL}
