"""Which rows decide, and that what has no row runs its reference."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from wsicodec.errors import ConfigError  # noqa: E402
from wsicodec.ops import dispatch  # noqa: E402
from wsicodec.ops.forms import FORMS  # noqa: E402

pytestmark = pytest.mark.torch

ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100")


def test_every_op_has_rows_for_every_architecture_and_every_row_a_reason() -> None:
    table = dispatch.shipped()
    assert {f"_{op}" for op in table} == set(FORMS)
    for rows in table.values():
        assert {card for row in rows for card in row.cards} == set(ARCHITECTURES)
        assert all(len(row.reason) > 20 for row in rows)


@pytest.mark.parametrize(
    ("card", "width", "keys", "rows"),
    [
        ("sm_90", 384, 1024, 64),
        ("sm_90", 384, 65, 64),
        ("sm_90", 960, 64, 64),
        ("sm_90", 512, 4096, 64),
        ("sm_90", 64, 1024, None),  # cuDNN's
        ("sm_86", 512, 4096, None),  # spills
        ("sm_90", 576, 1024, None),  # never asked for
        ("sm_75", 384, 1024, None),  # never built for
    ],
)
def test_the_first_row_that_covers_card_and_shape_decides(
    card: str, width: int, keys: int, rows: int | None
) -> None:
    q = torch.empty((1, 4, width), dtype=torch.bfloat16, device="meta")
    shape = {"width": width, "keys": keys, "heads": 1, "bytes": 2}
    with dispatch.assumed(card):
        how = dispatch.launch_of("attention", q, **shape)
        wide = dispatch.launch_of("attention", q.double(), **shape)
    assert (how and how["rows"]) == rows
    assert wide is None
    assert dispatch.launch_of("attention", torch.empty(1, 4, width), **shape) is None


def test_a_row_that_bounds_what_a_shape_lacks_does_not_cover_it() -> None:
    row = dispatch.Row(("sm_90",), {"width": (1, 9)}, {}, "")
    assert row.covers(("H", "sm_90"), {"width": 9})
    assert not row.covers(("sm_90",), {})
    assert not row.covers(("sm_80",), {"width": 9})


def test_another_table_is_taken_and_left_again(tmp_path: Path) -> None:
    row = {"cards": ["sm_90"], "shape": {}, "launch": {"rows": 3}, "reason": "measured"}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"geglu": [row]}), "utf-8")
    x = torch.empty((1, 4), device="meta")
    try:
        dispatch.use_table(path)
        assert dispatch.table()["geglu"][0].to_json() == row
        with dispatch.assumed("sm_90"):
            assert dispatch.launch_of("geglu", x) == {"rows": 3}
            assert dispatch.launch_of("residual", x) is None
    finally:
        dispatch.use_table(None)
    assert dispatch.table() is dispatch.shipped()


@pytest.mark.parametrize("text", ["[]", '{"geglu": [{"cards": ["sm_90"]}]}', "no json"])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected a dispatch table"):
        dispatch.parse(text)


def test_gradients_go_through_the_reference() -> None:
    x = torch.empty(3, device="meta")
    assert dispatch.wanted(x, None)
    asked = torch.empty(3, device="meta", requires_grad=True)
    assert not dispatch.wanted(x, asked)
    with torch.no_grad():
        assert dispatch.wanted(x, asked)
    assert not dispatch.wanted(torch.empty(3))
