"""Work over processes: what is handed back, in which order, and what is left undone."""

import time
from functools import partial
from pathlib import Path

import pytest

from wsicodec.bench.spread import spread
from wsicodec.errors import ConfigError
from wsicodec.presets import PRESETS, find_preset


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_comes_back_with_what_it_gave(workers: int) -> None:
    assert dict(spread(partial(pow, 2), range(6), workers)) == {i: 2**i for i in range(6)}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_ours_is_handed_back_and_the_rest_is_done(workers: int) -> None:
    names = ["none such", *PRESETS]
    found = dict(spread(find_preset, names, workers))
    assert isinstance(found.pop("none such"), ConfigError)
    assert found == PRESETS


@pytest.mark.parametrize("workers", [1, 2])
def test_any_other_error_is_raised(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(spread(partial(divmod, 1), [1, 0, 2], workers))


def test_an_item_begins_after_what_it_needs() -> None:
    """The second would be done long before the first, which the third does not wait for."""
    needs = {0.001: 0.8, 0.0: 7.0}  # which nobody asked for
    done = [item for item, _ in spread(time.sleep, [0.8, 0.001, 0.0], 2, needs.get)]
    assert done == [0.0, 0.8, 0.001]


def test_what_has_not_begun_when_the_caller_stops_is_not_done(tmp_path: Path) -> None:
    paths = [tmp_path / str(i) for i in range(3)]
    results = spread(Path.mkdir, paths, 1)
    assert next(results) == (paths[0], None)
    results.close()
    assert [p.name for p in tmp_path.iterdir()] == ["0"]
    naps = spread(time.sleep, [0.0, *(0.3 + i / 1000 for i in range(20))], 2)
    next(naps)
    began = time.monotonic()
    naps.close()
    assert time.monotonic() - began < 2
