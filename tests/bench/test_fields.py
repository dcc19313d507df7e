"""Fields of tissue, and the picture made of them."""

from pathlib import Path

import numpy as np
import pytest

from wsicodec.bench.fields import Field, cut, gather, lay_out
from wsicodec.errors import ConfigError

SIZES = [(512, 512), (1024, 512), (512, 1024), (1024, 1024), (512, 512)]


def _fields(rng: np.random.Generator) -> list[Field]:
    return [
        Field(str(i), str(i), rng.integers(0, 256, (*size, 3), np.uint8))
        for i, size in enumerate(SIZES)
    ]


@pytest.mark.parametrize("gap", [512, 0])
def test_fields_lie_apart_and_where_they_are_said_to(rng: np.random.Generator, gap: int) -> None:
    mosaic = lay_out("all", _fields(rng), gap)
    for field in mosaic.fields:
        assert np.array_equal(mosaic.rgb[field.region.slices()], field.rgb)
        assert field.y % 512 == field.x % 512 == 0
    for i, one in enumerate(mosaic.fields):
        for other in mosaic.fields[i + 1 :]:
            assert one.region.grow(max(0, gap - 1)).intersect(other.region).empty
    painted = sum(f.region.shape[0] * f.region.shape[1] for f in mosaic.fields)
    assert mosaic.pixels == painted
    assert (mosaic.rgb == 255).all(2).sum() >= mosaic.rgb.shape[0] * mosaic.rgb.shape[1] - painted


def test_a_set_of_fields_has_one_digest_and_one_order(rng: np.random.Generator) -> None:
    fields = _fields(rng)
    apart, tight, turned = (
        lay_out("all", chosen, gap)
        for chosen, gap in ((fields, 512), (fields, 0), (fields[::-1], 0))
    )
    assert apart.digest == tight.digest == turned.digest
    assert [f.name for f in apart.fields] == [f.name for f in tight.fields]
    fields[0].rgb[0, 0, 0] ^= 1
    assert lay_out("all", fields, 0).digest != tight.digest


def test_no_fields_are_an_error() -> None:
    with pytest.raises(ConfigError, match="--mpp"):
        lay_out("none", [])


def test_fields_of_a_slide_hold_tissue(drawn_slide: Path) -> None:
    fields = cut(drawn_slide, None, 4)
    assert fields
    assert all(f.rgb.shape[0] % 512 == 0 and f.rgb.shape[1] % 512 == 0 for f in fields)
    assert all(f.rgb.std() > 5 for f in fields)
    assert cut(drawn_slide, 4.0, 4) == []
    mosaic = lay_out("slide", fields)
    assert len(mosaic.tissue) == sum(f.rgb.shape[0] * f.rgb.shape[1] // 256**2 for f in fields)
    assert mosaic.tissue_pixels == mosaic.tissue.sum() * 256**2 > 0


def test_an_index_gives_the_rows_of_a_split(drawn_slide: Path, tmp_path: Path) -> None:
    (tmp_path / "a.tif").symlink_to(drawn_slide)
    (tmp_path / "b.tif").symlink_to(drawn_slide)
    (tmp_path / "index.csv").write_text("file,split,est. mpp\na.tif,val,0.5\nb.tif,train,0.5\n")
    assert {f.file for f in gather(tmp_path / "index.csv", split="val")} == {"a.tif"}
    assert {f.file for f in gather(tmp_path, files=1)} == {"a.tif"}
    assert {f.file for f in gather(tmp_path)} == {"a.tif", "b.tif"}
