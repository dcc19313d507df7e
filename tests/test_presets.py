"""The dial."""

import pytest

from wsicodec.errors import ConfigError
from wsicodec.presets import DEFAULT_PRESET, PRESETS, find_preset


def test_presets_are_found_by_name_from_least_to_most() -> None:
    assert list(PRESETS) == ["semantic", "standard", "detail", "measured"]
    assert find_preset(DEFAULT_PRESET) is PRESETS["standard"]
    rates = [p.bpp for p in PRESETS.values() if p.bpp is not None]
    assert rates == sorted(rates)


def test_an_unknown_preset_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError, match="preset semantic, standard, detail, measured"):
        find_preset("nonsense")
