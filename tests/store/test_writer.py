"""Encoding: what is stored, resuming, and never overwriting unasked."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.store import kit
from wsicodec.config import BLANK, GENERATED, MEASURED
from wsicodec.errors import BundleError, ConfigError, StoreError, StoreExistsError
from wsicodec.resample import box_reduce
from wsicodec.store import plan
from wsicodec.store.bands import ahead
from wsicodec.store.job import hold, partial_path
from wsicodec.store.report import EncodeReport

ROOT = Path(__file__).parents[2]
Encode = Callable[..., EncodeReport]
SIDE = 512  # pixels of a block while blocks are made small


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 2 x 2 patches, so that a small picture has several."""
    shrink_blocks(monkeypatch.setattr)


def shrink_blocks(set_: Callable[[str, object], None]) -> None:
    for module in ("plan", "run", "bands", "blocks"):
        set_(f"wsicodec.store.{module}.BLOCK", SIDE)
    for module in ("plan", "blocks", "check", "metadata"):
        set_(f"wsicodec.store.{module}.GRID_CHUNK", SIDE // 256)
    for module in ("plan", "work"):
        set_(f"wsicodec.store.{module}.CHUNK", 64)


def tree(store: Path) -> dict[str, str]:
    return {
        p.relative_to(store).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in store.rglob("*")
        if p.is_file()
    }


def test_the_arrays_hold_what_was_seen(encode: Encode, tmp_path: Path) -> None:
    rgb = kit.tissue_picture(700, 900)
    report = encode(rgb, tmp_path / "s.zarr", preset="measured")
    path = tmp_path / "s.zarr"
    np.testing.assert_array_equal(kit.read(path, "anchor"), rgb)
    np.testing.assert_array_equal(kit.read(path, "0"), rgb)
    np.testing.assert_array_equal(kit.read(path, "3"), box_reduce(rgb, 8))
    tissue = kit.read(path, "tissue")
    assert set(np.unique(tissue)) <= {BLANK, MEASURED}
    assert report.patches == (tissue != BLANK).sum()
    vectors = kit.read(path, "embeddings")
    assert vectors.shape == (3, 4, kit.WIDTH)
    np.testing.assert_array_equal(vectors.any(axis=2), tissue != BLANK)


def test_the_rate_counts_every_byte_on_disk(encode: Encode, tmp_path: Path) -> None:
    report = encode(kit.tissue_picture(700, 900), tmp_path / "s.zarr")
    size = sum(p.stat().st_size for p in (tmp_path / "s.zarr").rglob("*") if p.is_file())
    assert report.bytes == size
    assert report.bpp_slide == 8 * size / (700 * 900)
    assert report.tissue_pixels <= report.slide_pixels == 700 * 900
    assert report.bpp_tissue == 8 * size / report.tissue_pixels


def test_a_slide_without_tissue_is_all_glass(encode: Encode, tmp_path: Path) -> None:
    report = encode(np.full((600, 600, 3), 243, np.uint8), tmp_path / "s.zarr", preset="semantic")
    assert report.patches == 0
    assert report.bpp_tissue is None
    assert (kit.read(tmp_path / "s.zarr", "0") == 243).all()


def test_regions_of_interest_are_kept_and_the_rest_is_generated(store: Path) -> None:
    rgb = kit.tissue_picture(700, 900)
    np.testing.assert_array_equal(kit.read(store, "roi")[:256, 256:512], rgb[:256, 256:512])
    assert kit.read(store, "tissue")[0, 1] == MEASURED
    assert kit.read(store, "tissue")[1, 1] == GENERATED
    np.testing.assert_array_equal(kit.read(store, "0")[:256, 256:512], rgb[:256, 256:512])


def test_a_roi_outside_is_refused_by_name(encode: Encode, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="roi"):
        encode(kit.tissue_picture(300, 300), tmp_path / "s.zarr", roi=[(400, 0, 500, 100)])
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_preset_is_refused_by_name(encode: Encode, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="preset semantic, standard, detail, measured"):
        encode(kit.tissue_picture(300, 300), tmp_path / "s.zarr", preset="nonsense")


def test_what_stands_there_is_not_overwritten_unasked(encode: Encode, store: Path) -> None:
    before = tree(store)

    def never(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("no work may begin")

    with pytest.raises(StoreExistsError, match="overwrite"):
        encode(kit.tissue_picture(300, 300), store, embed=never)
    assert tree(store) == before


def test_asked_to_a_store_is_replaced_at_the_end(encode: Encode, store: Path) -> None:
    def fail(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise OSError("disk full")

    before = tree(store)
    with pytest.raises(OSError, match="disk full"):
        encode(kit.tissue_picture(300, 300), store, embed=fail, overwrite=True)
    assert tree(store) == before
    encode(kit.tissue_picture(300, 300), store, overwrite=True)
    assert kit.read(store, "0").shape == (300, 300, 3)
    assert [p.name for p in store.parent.iterdir()] == [store.name]


def test_what_is_no_store_is_never_replaced(encode: Encode, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("x")
    with pytest.raises(StoreExistsError, match="something else"):
        encode(kit.tissue_picture(300, 300), tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter").read_text() == "x"


def test_pictures_whose_chunks_span_blocks_are_put_together(
    encode: Encode, tmp_path: Path, small_blocks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "OVERVIEW_ABOVE", 100)
    rgb = kit.tissue_picture(1300, 1100)
    encode(rgb, tmp_path / "s.zarr", preset="measured")
    path = tmp_path / "s.zarr"
    np.testing.assert_array_equal(kit.read(path, "anchor"), rgb)
    np.testing.assert_array_equal(kit.read(path, "overview"), box_reduce(rgb, 8))
    np.testing.assert_array_equal(kit.read(path, "thumbnail"), box_reduce(rgb, 64))


def test_bands_come_in_order_and_no_further_ahead_than_asked() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            taken.append(i)
            yield i

    with ThreadPoolExecutor(3) as pool:
        for i, square in ahead(pool, lambda n: n * n, items(), 4):
            assert square == i * i
            assert len(taken) <= i + 5


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_run_that_was_cut_off_is_finished_with_the_same_bytes(
    encode: Encode, tmp_path: Path, small_blocks: None, cut: int
) -> None:
    rgb = kit.tissue_picture(1300, 1100)
    encode(rgb, tmp_path / "whole.zarr", roi=[(600, 0, 700, 900)])
    calls = 0

    def dies(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal calls
        calls += 1
        if calls > cut:
            raise KeyboardInterrupt
        return kit.embed(patches)

    with pytest.raises(KeyboardInterrupt):
        encode(rgb, tmp_path / "cut.zarr", embed=dies, roi=[(600, 0, 700, 900)])
    assert not (tmp_path / "cut.zarr").exists()
    encode(rgb, tmp_path / "cut.zarr", roi=[(600, 0, 700, 900)])
    assert tree(tmp_path / "cut.zarr") == tree(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.zarr", "whole.zarr"]


def test_finished_blocks_are_not_done_again_and_damaged_ones_are(
    encode: Encode, tmp_path: Path, small_blocks: None
) -> None:
    rgb = kit.tissue_picture(1300, 512)
    done: list[int] = []

    def dies_in_the_third_block(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(len(patches))
        return kit.embed(patches)

    with pytest.raises(KeyboardInterrupt):
        encode(rgb, tmp_path / "s.zarr", embed=dies_in_the_third_block)
    # The second block may be embedded without being written when the third one dies.
    written = sorted((partial_path(tmp_path / "s.zarr") / "store/embeddings/c").rglob("0"))
    kept = [path for path in written if path.is_file()]
    assert kept
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    again: list[int] = []

    def counts(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        again.append(len(patches))
        return kit.embed(patches)

    encode(rgb, tmp_path / "s.zarr", embed=counts)
    assert len(done) == 2
    assert len(again) == 3 - (len(kept) - 1), "the damaged block and those never finished"


def test_another_job_does_not_go_on_from_a_foreign_partial(
    encode: Encode, tmp_path: Path, small_blocks: None
) -> None:
    def dies(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(kit.tissue_picture(1100, 512, seed=1), tmp_path / "s.zarr", embed=dies)
    encode(kit.tissue_picture(1100, 512, seed=2), tmp_path / "s.zarr")
    encode(kit.tissue_picture(1100, 512, seed=2), tmp_path / "t.zarr")
    assert tree(tmp_path / "s.zarr") == tree(tmp_path / "t.zarr")


def test_bad_embeddings_leave_nothing_behind(encode: Encode, tmp_path: Path) -> None:
    def broken(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(patches), kit.WIDTH), np.nan, np.float32)

    with pytest.raises(BundleError, match="embedder"):
        encode(kit.tissue_picture(300, 300), tmp_path / "s.zarr", embed=broken)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_one_store_are_told(encode: Encode, tmp_path: Path) -> None:
    with hold(partial_path(tmp_path / "s.zarr")), pytest.raises(StoreError, match="only writer"):
        encode(kit.tissue_picture(300, 300), tmp_path / "s.zarr")


def test_a_process_that_is_killed_is_resumed_with_the_same_bytes(
    encode: Encode, tmp_path: Path, small_blocks: None
) -> None:
    rgb = kit.tissue_picture(1300, 1100)
    encode(rgb, tmp_path / "whole.zarr")
    code = """
import os, signal, sys
from pathlib import Path
import wsicodec.store.plan, wsicodec.store.run, wsicodec.store.bands, wsicodec.store.blocks
import wsicodec.store.metadata, wsicodec.store.work, wsicodec.store.writer, wsicodec.store.check
from tests.store import kit, test_writer
from wsicodec.slide.opening import open_slide
def put(name, value):
    module, attribute = name.rsplit(".", 1)
    setattr(sys.modules[module], attribute, value)
test_writer.shrink_blocks(put)
kit.install()
bundle = kit.make_bundle(Path(sys.argv[2]))
calls = []
def dies(patches):
    calls.append(1)
    if len(calls) > 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return kit.embed(patches)
with open_slide(kit.tissue_picture(1300, 1100), mpp=0.5) as slide:
    wsicodec.store.writer.encode_slide(slide, sys.argv[1], bundle, dies)
"""
    bundle = tmp_path.parent / f"{tmp_path.name}-bundles" / "fake"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cut.zarr"), str(bundle)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert partial_path(tmp_path / "cut.zarr").is_dir()
    encode(rgb, tmp_path / "cut.zarr")
    assert tree(tmp_path / "cut.zarr") == tree(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.zarr", "whole.zarr"]


def test_progress_ends_with_everything(encode: Encode, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    encode(
        kit.tissue_picture(700, 900),
        tmp_path / "s.zarr",
        progress=lambda done, total, unit: seen.append((done, total, unit)),
    )
    assert [unit for *_, unit in seen] == ["patches"] * len(seen)
    assert seen[-1] == (12, 12, "patches")
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
