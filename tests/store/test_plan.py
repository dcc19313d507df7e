"""What a preset keeps of a slide."""

import numpy as np
import pytest

from wsicodec.config import BLANK, GENERATED, MEASURED
from wsicodec.errors import BundleError, ConfigError
from wsicodec.geometry import Region
from wsicodec.models.bundle import AnchorPlan, Bundle
from wsicodec.presets import PRESETS
from wsicodec.store.plan import Picture, patch_classes, plan_pictures, snap_regions


def own_quality(plan: AnchorPlan) -> int:
    return plan.quality


def pictures(preset: str, bundle: Bundle, side: int = 40_000) -> list[tuple[str, int, str]]:
    found = plan_pictures((side, side), PRESETS[preset], bundle, None, own_quality)
    return [(p.path, p.level, p.form.codec) for p in found]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("semantic", []),
        ("standard", [("anchor", 2, "avif"), ("overview", 5, "avif")]),
        ("detail", [("anchor", 1, "jpegxl"), ("overview", 4, "jpegxl")]),
        (
            "measured",
            [("anchor", 0, "jpegxl"), ("overview", 3, "jpegxl"), ("thumbnail", 6, "jpegxl")],
        ),
    ],
)
def test_a_large_slide_has_overviews(
    preset: str, expected: list[tuple[str, int, str]], fake_bundle: Bundle
) -> None:
    assert pictures(preset, fake_bundle) == expected


def test_a_small_slide_has_none_and_is_not_padded(fake_bundle: Bundle) -> None:
    (anchor,) = plan_pictures((1000, 4000), PRESETS["standard"], fake_bundle, None, own_quality)
    assert anchor == Picture("anchor", 2, (250, 1000), anchor.form)
    assert anchor.chunk == (250, 1000)


def test_a_bundle_without_an_anchor_says_so(
    fake_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_bundle.config, "anchors", {})
    with pytest.raises(BundleError, match="anchor for preset standard"):
        pictures("standard", fake_bundle)


def test_regions_grow_to_whole_patches_and_end_with_the_slide() -> None:
    snapped = snap_regions([(300, 10, 301, 600), (300, 10, 301, 600)], (500, 520))
    assert snapped == (Region(256, 0, 500, 520),)
    with pytest.raises(ConfigError, match="roi"):
        snap_regions([(5, 5, 5, 9)], (500, 520))


def test_patches_are_blank_generated_or_measured() -> None:
    tissue = np.array([[True, False, True]])
    roi = (Region(0, 256, 256, 512),)
    assert patch_classes(tissue, measured=False, roi=roi).tolist() == [
        [GENERATED, MEASURED, GENERATED]
    ]
    assert patch_classes(tissue, measured=True, roi=()).tolist() == [[MEASURED, BLANK, MEASURED]]
