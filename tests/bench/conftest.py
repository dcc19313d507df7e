"""Rows as a run writes them, made up so that their answers are known."""

from collections.abc import Callable

import pytest

from wsicodec.bench.table import Row

MakeRow = Callable[..., Row]


@pytest.fixture
def make_row() -> MakeRow:
    """A row of a codec at a rate and a distance, all else alike."""

    def make(codec: str, setting: str, rate: float, value: float, **more: object) -> Row:
        row = {
            "group": "drawn",
            "fields_digest": "f" * 12,
            "judges": "j" * 12,
            "codec": codec,
            "setting": setting,
            "seed": "0",
            "weights": "b" * 12 if codec in ("wsicodec", "anchor", "autoencoder") else "",
            "level": "0",
            "files": "3",
            "patches": "600",
            "bytes": f"{rate * 1000:g}",
            "bpp_tissue": f"{rate:g}",
            "cosine": "0.9",
            "fd_held_out": f"{value:g}",
            "fd_held_out_low": f"{value * 0.9:g}",
            "fd_held_out_high": f"{value * 1.1:g}",
            "fd_held_out_draws": " ".join(f"{value * (1 + d / 100):g}" for d in range(-5, 6)),
            "psnr": "20",
            "machine": "a machine",
            "versions": "some",
            "commit": "c0ffee",
            "date": "2026-01-01",
        }
        return row | {name: str(given) for name, given in more.items()}

    return make
