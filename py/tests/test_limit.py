"""Whoever did not choose a size limit is told, once, when it begins to cost entries."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diskcache_rs import Cache, FanoutCache, SizeLimitWarning, _limit

VALUE = b"x" * 2**24
COUNT = 64  # times the value: the default limit


@pytest.fixture
def nearly_full(make: Callable[..., Cache]) -> Iterator[Cache]:
    cache = make()
    for number in range(COUNT - 1):
        cache[number] = VALUE
    yield cache
    cache.clear()


def test_evictions_by_the_default_limit_are_said_once_with_what_to_do(nearly_full: Cache, make: Callable[..., Cache]) -> None:
    cache = nearly_full
    assert len(cache) == COUNT - 1
    cache.set("expired", VALUE[:1], expire=0.001)

    def store_more() -> None:
        for number in range(2):
            cache["more", number] = VALUE

    with pytest.warns(SizeLimitWarning, match=r"1024 MiB.*size_limit=") as said:
        store_more()
    assert len(said) == 1
    assert said[0].filename == __file__
    assert cache.directory in str(said[0].message)
    assert 0 not in cache
    other = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(4):
            cache["again", number] = VALUE
            other["other", number] = VALUE
        # Somebody who chose is not told.
        _limit._warned.clear()
        other.reset("size_limit", 2**30)
        for number in range(4):
            other["chosen", number] = VALUE
    assert len(cache) <= COUNT


def test_a_cache_that_is_not_full_or_loses_what_expired_says_nothing(make: Callable[..., Cache]) -> None:
    cache = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(44):
            cache.set(number, VALUE, expire=0.001 if number % 2 else None)
        for number in range(3000):
            cache.set(number, 1, expire=0.0001)
        with cache.transact():
            for number in range(100):
                cache[number] = 1
        for number in range(44):
            cache.delete(number)


def test_a_fanout_cache_whose_default_limit_is_divided_says_it_of_the_whole(tmp_path: Path) -> None:
    cache = FanoutCache(tmp_path / "cache", shards=4, timeout=60)

    def store() -> None:
        for number in range(100):
            cache[number] = VALUE

    with pytest.warns(SizeLimitWarning, match=r"1024 MiB.*size_limit=") as said:
        store()
    assert len(said) == 1
    assert cache.directory + " has" in str(said[0].message)
    assert said[0].filename == __file__
    # In all four shards something was evicted by now.
    assert len(cache) <= COUNT
    cache.clear()


def test_a_fanout_cache_whose_limit_was_chosen_says_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with FanoutCache(tmp_path / "chosen", shards=2, timeout=60, size_limit=2**26) as chosen:
            for number in range(20):
                chosen[number] = VALUE
        with FanoutCache(tmp_path / "reset", shards=2, timeout=60) as later:
            later.reset("size_limit", 2**25)
            for number in range(20):
                later[number] = VALUE
            assert len(later) < 10


def test_a_limit_that_was_set_at_opening_is_no_default(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", size_limit=2**25) as cache, warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(50):
            cache[number] = VALUE
        assert len(cache) < 5
