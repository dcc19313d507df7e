"""The whole way: `zarr.open` on an encoded slide, as a stranger would, in every kind of process."""

import hashlib
import json
import multiprocessing
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

import wsicodec
from wsicodec.codec import state
from wsicodec.codec.pixels_zarr import Pixels
from wsicodec.errors import ConfigError, GeneratedPixelsError, StoreError

BOX = (slice(200, 500), slice(900, 1100))  # crosses the border between two chunks
FRESH = """
import sys, hashlib, zarr
for setting in sys.argv[2:]:
    key, value = setting.split("=")
    zarr.config.set({key: int(value)})
group = zarr.open(sys.argv[1], mode="r")
assert "torch" not in sys.modules and "wsicodec" not in sys.modules
pixels = group["0"][200:500, 900:1100]
print(hashlib.sha256(pixels.tobytes()).hexdigest())
"""


def _array(store: Path, level: str = "0") -> Any:
    return zarr.open_group(store, mode="r")[level]


@pytest.fixture
def forgotten() -> None:
    """A process that has read nothing yet: what is in the caches would hide damage."""
    state._forget()


@pytest.fixture(scope="session")
def pixels(standard_store: Path) -> NDArray[np.uint8]:
    """Level 0, read whole in this process."""
    whole: NDArray[np.uint8] = _array(standard_store)[...]
    return whole


def _run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def test_level_0_looks_like_the_slide(standard_store: Path, drawn_slide: Path) -> None:
    from wsicodec.geometry import Region
    from wsicodec.slide import open_slide

    shown = _array(standard_store)[...].astype(float)
    with open_slide(drawn_slide) as slide:
        real = slide.read(Region(0, 0, *slide.shape)).astype(float)
    assert shown.shape == real.shape
    assert 10 * np.log10(255**2 / np.square(shown - real).mean()) > 14


@pytest.mark.parametrize(
    "selection",
    [
        BOX,
        (slice(0, 1), slice(0, 1)),
        (slice(1000, 1024), slice(1500, 1536)),
        (slice(200, 700, 7), slice(100, 1300, 3)),
        (700, 1030),
        (slice(250, 270), slice(1000, 1050), 1),
        (Ellipsis, 2),
    ],
)
def test_selections_are_parts_of_the_whole(
    standard_store: Path, pixels: NDArray[np.uint8], selection: Any
) -> None:
    np.testing.assert_array_equal(_array(standard_store)[selection], pixels[selection])


def test_fancy_selections(standard_store: Path, pixels: NDArray[np.uint8]) -> None:
    array = _array(standard_store)
    rows, columns = [5, 700, 300], [1200, 4, 1100]
    np.testing.assert_array_equal(array.oindex[rows, columns], pixels[np.ix_(rows, columns)])
    np.testing.assert_array_equal(
        array.vindex[rows, columns, [0, 1, 2]], pixels[rows, columns, [0, 1, 2]]
    )
    np.testing.assert_array_equal(array.blocks[0, 1], pixels[:1024, 1024:])


def test_the_view_for_ome_readers_is_the_same_picture(
    standard_store: Path, pixels: NDArray[np.uint8]
) -> None:
    view = _array(standard_store, "cyx/0")
    assert view.shape == (3, 1024, 1536)
    np.testing.assert_array_equal(view[:, BOX[0], BOX[1]], pixels[BOX].transpose(2, 0, 1))
    np.testing.assert_array_equal(view[1, 3:9], pixels[3:9, :, 1])


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["threading.max_workers=1"],
        ["async.concurrency=1"],
        ["async.concurrency=64"],
        ["codec_pipeline.batch_size=1000"],
    ],
    ids=lambda s: " ".join(s) or "defaults",
)
def test_another_process_sees_the_same(
    standard_store: Path, pixels: NDArray[np.uint8], settings: list[str]
) -> None:
    assert _run(FRESH, standard_store, *settings).split()[-1] == _digest(pixels[BOX])


def test_threads_see_the_same(standard_store: Path, pixels: NDArray[np.uint8]) -> None:
    with ThreadPoolExecutor(8) as pool:
        reads = list(pool.map(lambda _: _array(standard_store)[BOX], range(8)))
    for read in reads:
        np.testing.assert_array_equal(read, pixels[BOX])


def _child(store: str, answers: Any) -> None:
    answers.put(_digest(_array(Path(store))[BOX]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_children_see_the_same_after_the_parent_has_drawn(
    standard_store: Path, pixels: NDArray[np.uint8], method: str
) -> None:
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    child = context.Process(target=_child, args=(str(standard_store), answers))
    child.start()
    assert answers.get(timeout=120) == _digest(pixels[BOX])
    child.join()


def test_an_array_pickles(standard_store: Path, pixels: NDArray[np.uint8]) -> None:
    copy = pickle.loads(pickle.dumps(_array(standard_store)))
    np.testing.assert_array_equal(copy[BOX], pixels[BOX])


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_dask_sees_the_same(
    standard_store: Path, pixels: NDArray[np.uint8], scheduler: str
) -> None:
    dask_array = pytest.importorskip("dask.array")
    whole = dask_array.from_zarr(_array(standard_store)).compute(scheduler=scheduler)
    np.testing.assert_array_equal(whole, pixels)


def test_a_level_opened_by_itself_finds_its_slide(
    standard_store: Path, pixels: NDArray[np.uint8]
) -> None:
    np.testing.assert_array_equal(zarr.open_array(standard_store / "0", mode="r")[BOX], pixels[BOX])
    view = zarr.open_array(standard_store / "cyx" / "0", mode="r")
    np.testing.assert_array_equal(view[:, 3:9, :7], pixels[3:9, :7].transpose(2, 0, 1))


def test_other_stores_and_prefixes(standard_store: Path, pixels: NDArray[np.uint8]) -> None:
    memory: dict[str, Any] = {}
    buffer = zarr.core.buffer.default_buffer_prototype().buffer
    for file in standard_store.rglob("*"):
        if file.is_file():
            name = f"deep/down/{file.relative_to(standard_store).as_posix()}"
            memory[name] = buffer.from_bytes(file.read_bytes())
    store = zarr.storage.MemoryStore(memory)
    level: Any = zarr.open_group(store, path="deep/down", mode="r")["0"]
    np.testing.assert_array_equal(level[BOX], pixels[BOX])
    alone = zarr.open_array(store, path="deep/down/0", mode="r")
    np.testing.assert_array_equal(alone[BOX], pixels[BOX])


@pytest.mark.usefixtures("forgotten")
def test_a_level_moved_away_from_its_slide_says_so(standard_store: Path, tmp_path: Path) -> None:
    shutil.copytree(standard_store / "0", tmp_path / "0")
    with pytest.raises(StoreError, match=r"zarr\.json"):
        zarr.open_array(tmp_path / "0", mode="r")[:2, :2]


@pytest.mark.usefixtures("forgotten")
def test_a_level_under_another_slide_is_refused(
    standard_store: Path, semantic_store: Path, tmp_path: Path
) -> None:
    shutil.copytree(semantic_store, tmp_path / "mixed.zarr")
    shutil.copytree(standard_store / "0", tmp_path / "mixed.zarr" / "0", dirs_exist_ok=True)
    with pytest.raises(StoreError, match="moved away from its slide"):
        _array(tmp_path / "mixed.zarr")[:2, :2]


def test_writing_is_refused_with_a_reason(standard_store: Path, tmp_path: Path) -> None:
    shutil.copytree(standard_store, tmp_path / "s.zarr")
    array: Any = zarr.open_group(tmp_path / "s.zarr", mode="r+")["0"]
    with pytest.raises(TypeError, match=r"wsicodec\.encode"):
        array[0:256, 0:256] = 7


@pytest.mark.parametrize(
    "extra",
    [
        {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
        {"name": "crc32c"},
    ],
    ids=["zstd", "crc32c"],
)
def test_a_second_codec_is_never_silently_black(
    standard_store: Path, tmp_path: Path, extra: dict[str, Any]
) -> None:
    shutil.copytree(standard_store, tmp_path / "s.zarr")
    document = tmp_path / "s.zarr" / "0" / "zarr.json"
    metadata = json.loads(document.read_text())
    metadata["codecs"].append(extra)
    document.write_text(json.dumps(metadata))
    with pytest.raises(TypeError, match="only codec"):
        _array(tmp_path / "s.zarr")[:2, :2]


@pytest.mark.usefixtures("forgotten")
def test_a_lost_chunk_is_not_glass(standard_store: Path, tmp_path: Path) -> None:
    shutil.copytree(standard_store, tmp_path / "s.zarr")
    (tmp_path / "s.zarr" / "embeddings" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(StoreError, match="is lost"):
        _array(tmp_path / "s.zarr")[...]


def test_generated_pixels_can_be_refused(standard_store: Path, pixels: NDArray[np.uint8]) -> None:
    careful: Any = wsicodec.open(standard_store, allow_generated=False)
    with pytest.raises(GeneratedPixelsError, match="allow_generated"):
        careful["0"][...]
    assert careful["2"][...].std() > 5
    np.testing.assert_array_equal(_array(standard_store)[BOX], pixels[BOX])


def test_steps_are_the_readers_choice(standard_store: Path) -> None:
    one, two = (wsicodec.open(standard_store, steps=n) for n in (1, 2))
    a: Any = one["0"]
    b: Any = two["0"]
    assert (a[BOX] != b[BOX]).any()


def test_a_slide_without_a_picture_is_drawn_from_its_sketch(
    semantic_store: Path, drawn_slide: Path
) -> None:
    from wsicodec.geometry import Region
    from wsicodec.resample import box_reduce
    from wsicodec.slide import open_slide

    with open_slide(drawn_slide) as slide:
        real = slide.read(Region(0, 0, 1024, 1536))
    group = zarr.open_group(semantic_store, mode="r")
    told: Any = group.attrs["wsicodec"]
    before = dict(state.state().drawn)
    for level in (7, 6, 5):
        shown: Any = group[str(level)]
        assert shown[...].std() > 2
        absorbed, wanted = (
            np.array(told["background"]) - x.mean((0, 1))
            for x in (shown[...], box_reduce(real, 1 << level))
        )
        # Glass would absorb nothing.
        assert (wanted / 2 < absorbed).all()
        assert (absorbed < wanted * 3).all()
    assert state.state().drawn == before, "no network draws it"
    for level in range(5):
        finer: Any = group[str(level)]
        assert np.abs(finer[...].mean((0, 1)) - shown[...].mean((0, 1))).max() < 10
    assert {k for k, n in state.state().drawn.items() if n > before.get(k, 0)} <= set(range(5))


def test_a_sketch_can_be_refused(semantic_store: Path) -> None:
    careful: Any = wsicodec.open(semantic_store, allow_generated=False)
    for level in range(8):
        with pytest.raises(GeneratedPixelsError, match="allow_generated"):
            careful[str(level)][...]


def test_a_region_that_was_kept_is_shown_as_it_was(semantic_store: Path, drawn_slide: Path) -> None:
    from wsicodec.geometry import Region
    from wsicodec.slide import open_slide

    kept = Region(256, 256, 512, 512)
    with open_slide(drawn_slide) as slide:
        real = slide.read(kept)
    np.testing.assert_array_equal(_array(semantic_store)[kept.slices()], real)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "later version"),
        ({"level": 8}, "level from 0 to 7"),
        ({"layout": "xyc"}, "layout"),
        ({"root": "../../.."}, "root"),
        ({"slide": "no"}, "32 hex"),
        ({"colour": 1}, "keys"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_configurations_are_checked(change: dict[str, Any], message: str) -> None:
    good: Any = Pixels(0, "0" * 32).to_dict()
    assert Pixels.from_dict(good) == Pixels(0, "0" * 32)
    good["configuration"] |= change
    with pytest.raises(ConfigError, match=message):
        Pixels.from_dict(good)
