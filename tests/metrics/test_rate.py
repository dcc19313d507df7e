from pathlib import Path

import pytest

from wsicodec.errors import StoreError
from wsicodec.metrics.rate import bytes_on_disk


def test_every_file_counts(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "chunk").write_bytes(b"x" * 1000)
    (tmp_path / "a" / ".hidden").write_bytes(b"x" * 30)
    (tmp_path / "zarr.json").write_bytes(b"x" * 5)
    assert bytes_on_disk(tmp_path) == 1035
    assert bytes_on_disk(tmp_path / "zarr.json") == 5


def test_nothing_is_no_rate(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither"):
        bytes_on_disk(tmp_path / "gone")
