"""Picture codecs at a ladder of rates."""

from pathlib import Path

import numpy as np
import pytest

from wsicodec.bench.fields import cut
from wsicodec.bench.rivals import RIVALS, code, find_rival, settings
from wsicodec.errors import ConfigError

ABLE = tuple(name for name, rival in RIVALS.items() if rival.available)


def test_the_five_that_every_build_has_are_there() -> None:
    assert {"jpeg", "jpeg2000", "jpegxl", "avif", "webp"} <= set(ABLE)


@pytest.mark.parametrize("name", ABLE)
@pytest.mark.parametrize("factor", [1, 4])
def test_a_better_setting_costs_more_and_errs_less(
    drawn_slide: Path, name: str, factor: int
) -> None:
    rgb = cut(drawn_slide, None, 1)[0].rgb[:512, :512]
    found = []
    for setting in settings((name,), (factor,), 2):
        coded = code(rgb, setting)
        error = float(np.square(coded.level(0, (512, 512)).astype(float) - rgb).mean())
        assert coded.level(1, (256, 256)).shape == (256, 256, 3)
        assert coded.factor == factor
        found.append((coded.bytes, error))
    (cheap, worse), (dear, better) = sorted(found)
    assert cheap < dear
    assert better < worse


def test_settings_say_how_far_a_picture_was_reduced() -> None:
    found = settings(("jpeg", "webp"), (4, 16), 2)
    assert found[:4] == ["jpeg 75 /4", "webp 85 /4", "jpeg 75 /16", "webp 85 /16"]
    assert sorted(found[4:]) == ["jpeg 3 /4", "jpeg 45 /16", "webp 1 /4", "webp 65 /16"]
    assert len(settings(("jpeg",), (1, 2, 4, 8, 16), 5)) == 3 + 4 + 5 + 4 + 2


def test_unknown_rivals_are_refused() -> None:
    with pytest.raises(ConfigError, match="among avif"):
        find_rival("gif")
