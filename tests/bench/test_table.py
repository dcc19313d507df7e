from collections.abc import Callable
from pathlib import Path

import pytest

from wsicodec.bench.table import Row, Table, newest, number
from wsicodec.errors import ConfigError

MakeRow = Callable[..., Row]


def test_a_row_is_kept_once_and_found_again(make_row: MakeRow, tmp_path: Path) -> None:
    path = tmp_path / "new" / "t.csv"
    table = Table(path)
    row = make_row("jpeg", "5", 0.1, 20.0)
    assert not table.has(row)
    for _ in range(2):
        table.add(row)
    again = Table(path)
    assert again.has(row)
    assert again.rows == [row]
    assert not again.has(row | {"seed": "1"})
    assert Table(path, fresh=True).rows == []


def test_other_columns_are_refused(make_row: MakeRow, tmp_path: Path) -> None:
    table = Table(tmp_path / "t.csv")
    table.add(make_row("jpeg", "5", 0.1, 20.0))
    with pytest.raises(ConfigError, match="--fresh"):
        table.add(make_row("jpeg", "6", 0.1, 20.0, more=1))


def test_figures_that_are_missing_are_no_number(make_row: MakeRow) -> None:
    row = make_row("jpeg", "5", 0.1, 20.0, psnr="")
    assert number(row, "psnr") != number(row, "psnr")
    assert number(row, "nothing") != number(row, "nothing")
    assert number(row, "bpp_tissue") == 0.1


def test_rows_of_an_older_bundle_are_left_out(make_row: MakeRow) -> None:
    rows = [make_row("wsicodec", "standard", 0.03, 9.0, weights=w) for w in ("old", "new")]
    rival = make_row("jpeg", "5", 0.1, 20.0)
    assert newest([*rows, rival], "new") == [rows[1], rival]
