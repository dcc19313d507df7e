"""What was run, told a line a codec."""

from collections.abc import Callable

from wsicodec.bench.coverage import coverage
from wsicodec.bench.table import Row

MakeRow = Callable[..., Row]


def test_settings_are_told_by_codec_seed_and_downsample(make_row: MakeRow) -> None:
    rows = [
        *(
            make_row("wsicodec", "standard", 0.03, 80, seed=s, level=k)
            for s in (0, 1)
            for k in (0, 1)
        ),
        make_row("wsicodec", "standard, 2 steps", 0.03, 80),
        make_row("wsicodec", "standard, step x0.5", 0.03, 80),
        make_row("jpeg", "20", 0.2, 100),
        make_row("jpeg", "8", 0.1, 150),
        make_row("jpeg", "20 /4", 0.02, 200),
    ]
    outside = [
        make_row("jpeg", "75", 2, 1, level=-1),
        make_row("avif", "5 /16", 0.001, 1, level=-1),
    ]
    text = coverage(rows, outside)
    ours = "as shipped (noise of 2 seeds); 2 steps; step x0.5"
    assert f'<tr class="ours"><td>wsicodec standard</td><td>{ours}</td><td></td></tr>' in text
    assert "<tr><td>jpeg</td><td>8; 20</td><td>75</td></tr>" in text
    assert "<tr><td>jpeg behind /4</td><td>20</td><td></td></tr>" in text
    assert "<tr><td>avif behind /16</td><td></td><td>5</td></tr>" in text
    assert text.index("wsicodec standard") < text.index("avif")
