"""Tuning needs a card and says so; what it tries keeps the kind of launch it started from."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.ops import dispatch, tune  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.skipif(torch.cuda.is_available(), reason="a card is there")
def test_without_a_card_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a CUDA device"):
        tune.main([str(tmp_path / "table.json")])
    assert not list(tmp_path.iterdir())


def test_variants_keep_streaming_and_are_distinct() -> None:
    for row in dispatch.shipped()["attention"]:
        if row.launch is None:
            continue
        found = list(tune.variants(row.launch))
        assert dict(row.launch) in found
        assert len({tuple(how.items()) for how in found}) == len(found)
        assert {bool(how["columns"]) for how in found} == {bool(row.launch["columns"])}


def test_every_example_starts_from_a_row_of_the_table() -> None:
    for example in tune.examples():
        shape = {name: low for name, (low, _) in example.shape.items()}
        row = dispatch.row_of(example.op, ("sm_90",), shape)
        assert row is not None
        assert row.launch is not None
