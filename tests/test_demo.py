"""The demo, small: a store reopened by zarr alone in another process, and the picture."""

from pathlib import Path

import pytest
from PIL import Image

from wsicodec import demo


@pytest.mark.slow
def test_the_demo_prints_its_figures_and_draws_five_levels(
    drawn_slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = demo.run(str(drawn_slide), tmp_path)
    printed = capsys.readouterr().out
    for word in ("bpp over tissue", "Mpx/s", "in another process", "generated", "measured"):
        assert word in printed
    with Image.open(picture) as image:
        assert image.width > 2 * demo.SIDE
        assert image.height > demo.ROWS * demo.SIDE
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "drawn.standard.png",
        "drawn.standard.zarr",
    ]
