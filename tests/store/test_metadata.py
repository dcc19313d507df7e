"""What a store says of itself."""

import json
from pathlib import Path

import pytest
import zarr

from wsicodec.config import StoreInfo
from wsicodec.geometry import LEVELS, level_shape
from wsicodec.store.metadata import slide_digest


def document(store: Path, path: str = "") -> dict:  # type: ignore[type-arg]
    return dict(json.loads((store / path / "zarr.json").read_bytes()))


def test_ome_is_there_in_both_versions_and_names_the_channel_first_views(store: Path) -> None:
    attributes = document(store)["attributes"]
    new, old = attributes["ome"]["multiscales"][0], attributes["multiscales"][0]
    assert attributes["ome"]["version"] == "0.5"
    assert old["version"] == "0.4"
    assert {k: v for k, v in old.items() if k != "version"} == new
    assert attributes["omero"] == attributes["ome"]["omero"]
    assert [axis["name"] for axis in new["axes"]] == ["c", "y", "x"]
    assert {axis.get("unit") for axis in new["axes"][1:]} == {"micrometer"}
    for level, dataset in enumerate(new["datasets"]):
        assert dataset["path"] == f"cyx/{level}"
        (transform,) = dataset["coordinateTransformations"]
        assert transform == {"type": "scale", "scale": [1.0, 0.5 * 2**level, 0.5 * 2**level]}
    assert len(new["datasets"]) == LEVELS


def test_the_root_attribute_reads_back_and_tells_how_to_install(store: Path) -> None:
    record = document(store)["attributes"]["wsicodec"]
    info = StoreInfo.from_json(record)
    assert info.shape == (700, 900)
    assert info.mpp == 0.5
    assert info.mpp_source == "caller"
    assert info.roi == ((0, 256, 256, 512),)
    assert info.measured == {2: "anchor"}
    assert "not for diagnosis" in info.notice
    assert [step["step"] for step in info.source["derivation"]] == ["embed", "keep"]
    assert "pip install" in record["x-install"]


@pytest.mark.parametrize("level", range(LEVELS))
def test_a_level_has_one_codec_and_no_chunk_files(store: Path, level: int) -> None:
    height, width = level_shape((700, 900), level)
    for path, shape in ((f"{level}", [height, width, 3]), (f"cyx/{level}", [3, height, width])):
        found = document(store, path)
        assert found["shape"] == shape
        assert [codec["name"] for codec in found["codecs"]] == ["wsicodec.pixels"]
        assert found["fill_value"] == 0
        assert [p.name for p in (store / path).iterdir()] == ["zarr.json"]


def test_json_takes_no_more_bytes_than_it_must(store: Path) -> None:
    for path in store.rglob("*.json"):
        text = path.read_bytes()
        assert text == json.dumps(json.loads(text), separators=(",", ":")).encode()


def test_zarr_lists_every_array(store: Path) -> None:
    root = zarr.open_group(store, mode="r")
    names = {name for name, _ in root.arrays()}
    assert names == {*map(str, range(LEVELS)), "anchor", "embeddings", "roi", "tissue"}
    assert [name for name, _ in root.groups()] == ["cyx"]


def test_the_digest_tells_apart_whatever_pixels_are_made_from() -> None:
    one = slide_digest((5, 6), "f", {"anchor/c/0/0/0": (3, "aa")}, {})
    assert len(one) == 32
    others = {
        slide_digest((6, 5), "f", {"anchor/c/0/0/0": (3, "aa")}, {}),
        slide_digest((5, 6), "g", {"anchor/c/0/0/0": (3, "aa")}, {}),
        slide_digest((5, 6), "f", {"anchor/c/0/0/0": (3, "ab")}, {}),
        slide_digest((5, 6), "f", {"anchor/c/0/1/0": (3, "aa")}, {}),
        slide_digest((5, 6), "f", {}, {}),
        slide_digest((5, 6), "f", {"anchor/c/0/0/0": (3, "aa")}, {5: "bb"}),
    }
    assert len(others | {one}) == 7
