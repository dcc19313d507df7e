from pathlib import Path

import numpy as np
import pytest

from wsicodec.resample import box_reduce
from wsicodec.train.data import DataConfig, Sampler, capped, generator, load_pictures


@pytest.fixture
def config(tissue_folder: Path, pyramid_cache: Path) -> DataConfig:
    return DataConfig(root=str(tissue_folder), cache=str(pyramid_cache), source_cap=0.6)


def test_pyramids_halve_down_and_keep_the_scale(config: DataConfig) -> None:
    pictures = load_pictures(config)
    assert [p.mag_index for p in pictures] == [0] * 4
    assert pictures[0].shapes[:3] == [(384, 384), (192, 192), (96, 96)]
    assert np.array_equal(pictures[0].levels[1], box_reduce(np.asarray(pictures[0].levels[0]), 2))


def test_second_load_reads_the_cache(config: DataConfig) -> None:
    first, second = load_pictures(config), load_pictures(config)
    assert np.array_equal(first[2].levels[0], second[2].levels[0])


def test_a_sample_follows_from_its_index(config: DataConfig) -> None:
    sampler = Sampler(load_pictures(config), config, 64)
    forwards = [sampler.draw(generator(3, i), 64, 8) for i in range(20)]
    backwards = [sampler.draw(generator(3, i), 64, 8) for i in reversed(range(20))]
    assert forwards == backwards[::-1]
    assert len(set(forwards)) > 15
    assert all(w.y % 8 == 0 and w.x % 8 == 0 for w in forwards)
    assert all(sampler.read(w).shape == (64, 64, 3) for w in forwards)


def test_other_seeds_draw_other_samples(config: DataConfig) -> None:
    sampler = Sampler(load_pictures(config), config, 64)
    assert sampler.draw(generator(3, 5), 64) != sampler.draw(generator(4, 5), 64)


def test_no_source_exceeds_its_cap(config: DataConfig) -> None:
    sampler = Sampler(load_pictures(config), config, 64)
    drawn = [sampler.draw_at(generator(0, i), 0, 64).picture for i in range(600)]
    share = np.mean([picture == 3 for picture in drawn])
    assert 0.33 < share < 0.47


@pytest.mark.parametrize(
    ("shares", "cap", "expected"),
    [
        ([8.0, 1.0, 1.0], 0.5, [0.5, 0.25, 0.25]),
        ([1.0, 1.0], 0.1, [0.5, 0.5]),
        ([6.0, 3.0, 1.0], 0.4, [0.4, 0.4, 0.2]),
    ],
)
def test_capped_shares(shares: list[float], cap: float, expected: list[float]) -> None:
    assert capped(np.array(shares), cap) == pytest.approx(expected)


def test_halving_rounds_half_up_and_repeats_the_edge() -> None:
    image = np.array([[[0], [1], [3]], [[1], [0], [4]]], np.uint8).repeat(3, 2)
    assert box_reduce(image, 2)[..., 0].tolist() == [[1, 4]]
