"""A store in the making."""

from pathlib import Path

import pytest

from wsicodec.errors import StoreError
from wsicodec.store.job import Job, clear_leftovers, hold, partial_path


def test_a_torn_journal_line_counts_for_nothing(tmp_path: Path) -> None:
    with Job(tmp_path / "s", {"plan": 1}) as job:
        job.finish_unit("a", job.write("x/c/0", b"one"))
        job.finish_unit("b", job.write("x/c/1", b"two"))
    journal = partial_path(tmp_path / "s") / "journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    with Job(tmp_path / "s", {"plan": 1}) as job:
        assert list(job.finished()) == ["a"]
        job.finish_unit("b", job.write("x/c/1", b"two"))
        assert list(job.finished()) == ["a", "b"]


@pytest.mark.parametrize("left", [b"", b"oen", b"onee", None])
def test_a_unit_whose_object_changed_is_done_again(tmp_path: Path, left: bytes | None) -> None:
    with Job(tmp_path / "s", {}) as job:
        job.finish_unit("a", job.write("parts/p", b"one"))
        file = job.root / "parts/p"
        file.unlink() if left is None else file.write_bytes(left)
        assert job.finished() == {}


def test_another_plan_starts_afresh(tmp_path: Path) -> None:
    with Job(tmp_path / "s", {"plan": 1}) as job:
        job.finish_unit("a", job.write("x", b"one"))
    with Job(tmp_path / "s", {"plan": 2}) as job:
        assert job.finished() == {}
        assert list(job.store.iterdir()) == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Job(tmp_path / "s", {}) as job:
        with pytest.raises(StoreError, match="another process"), Job(tmp_path / "s", {}):
            pass
        job.discard()
    with Job(tmp_path / "s", {}):
        pass


def test_a_replacement_that_was_cut_off_is_undone(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    with Job(tmp_path / "s", {}) as job:
        (tmp_path / "s").rename(job.replaced)
    clear_leftovers(tmp_path / "s")
    assert (tmp_path / "s").is_dir()


def test_leftovers_of_a_finished_store_go_and_unfinished_ones_stay(tmp_path: Path) -> None:
    with Job(tmp_path / "s", {}) as job:
        job.write("x", b"one")
    clear_leftovers(tmp_path / "s")
    assert (partial_path(tmp_path / "s") / "store/x").is_file()
    (partial_path(tmp_path / "s") / "store").rename(tmp_path / "s")
    with hold(partial_path(tmp_path / "s")):
        clear_leftovers(tmp_path / "s")
        assert partial_path(tmp_path / "s").is_dir()
    clear_leftovers(tmp_path / "s")
    assert not partial_path(tmp_path / "s").exists()
