from concurrent.futures import Future

import numpy as np

from wsicodec.codec.state import ByteCache, TileBoard


def test_the_cache_lets_go_of_what_was_used_longest_ago() -> None:
    cache: ByteCache[str] = ByteCache(10)
    for name in "abc":
        cache.put(name, name, 4)
        cache.get("a")
    assert cache.get("b") is None
    assert cache.get("a") == "a"
    assert cache.get("c") == "c"
    assert cache.used == 8


def test_a_value_put_twice_counts_once() -> None:
    cache: ByteCache[int] = ByteCache(10)
    cache.put("a", 1, 4)
    cache.put("a", 2, 6)
    assert (cache.get("a"), cache.used) == (2, 6)


def test_only_the_first_to_claim_a_tile_draws_it() -> None:
    board, tile = TileBoard(1000), np.zeros((2, 2, 3), np.uint8)
    assert board.claim("t") is None
    waiting = board.claim("t")
    assert isinstance(waiting, Future)
    board.publish("t", tile)
    assert waiting.result() is tile
    assert board.claim("t") is tile


def test_who_waits_for_a_tile_that_fails_is_told_and_the_next_may_try() -> None:
    board, trouble = TileBoard(1000), RuntimeError("no")
    assert board.claim("t") is None
    waiting = board.claim("t")
    assert isinstance(waiting, Future)
    board.give_up("t", trouble)
    assert waiting.exception() is trouble
    assert board.claim("t") is None
