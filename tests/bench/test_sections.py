"""Tables of the report."""

from collections.abc import Callable

import pytest

from wsicodec.bench.sections import differences, presets
from wsicodec.bench.table import Row

pytest.importorskip("scipy")
MakeRow = Callable[..., Row]


@pytest.mark.parametrize(
    ("value", "told"),
    [(900.0, "ours is nearer at every rate"), (1.0, "theirs is nearer at every rate")],
)
def test_without_a_common_distance_it_is_said_who_is_nearer(
    make_row: MakeRow, value: float, told: str
) -> None:
    rows = [make_row("wsicodec", str(i), r, 100 + i) for i, r in enumerate((0.02, 0.01))]
    rows += [make_row("jpeg", str(i), r, value + i) for i, r in enumerate((0.2, 0.1))]
    assert told in differences(rows, "held_out")


def test_presets_stand_in_the_order_of_their_rates_level_by_level(make_row: MakeRow) -> None:
    rows = [
        make_row("wsicodec", "detail", 0.1, 30),
        make_row("wsicodec", "semantic", 0.01, 90, level=1),
        make_row("anchor", "standard", 0.02, 200),
        make_row("wsicodec", "semantic", 0.01, 80),
        make_row("wsicodec", "standard, 2 steps", 0.03, 80),
    ]
    text = presets(rows, ["held_out"])
    names = ("level 0", "wsicodec semantic", "wsicodec detail", "anchor standard")
    assert "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>" in text
    assert "<tr><th>level 1</th><th>wsicodec semantic</th></tr>" in text
