"""What a commit can hold is no concern of the caller: large batches, transactions and removals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from diskcache_rs import Cache


@pytest.fixture(params=["local", "shared"])
def roomy(request: Any, make: Callable[..., Cache]) -> Cache:
    """A cache without a size limit that matters."""
    return make(profile=request.param, size_limit=2**40, cull_limit=0)


def batch() -> dict[int, bytes]:
    """Returns 64 MiB of values, short and long ones."""
    values = {number: number.to_bytes(4, "big") * [5, 7000, 25][number % 3] for number in range(7200)}
    assert sum(map(len, values.values())) > 2**26
    return values


def test_a_batch_of_64_mib_is_stored_as_one(roomy: Cache) -> None:
    values = batch()
    assert roomy.set_many(values) == len(values)
    with Cache(roomy.directory) as other:
        assert other.get_many(values) == values
        assert other.check() == []


def test_a_transaction_of_64_mib_is_stored_as_one(roomy: Cache) -> None:
    values = batch()
    with Cache(roomy.directory) as other:
        with roomy.transact():
            for key, value in values.items():
                roomy.set(key, value)
            assert roomy.get(2) == values[2]
            assert len(other) == 0
        assert other.get_many(values) == values


def test_3000_keys_of_100_kib_are_evicted_between_hosts(make: Callable[..., Cache]) -> None:
    cache = make(profile="shared", size_limit=2**40, cull_limit=0)
    keys = [f"{number:05};" * (100 * 1024 // 6) for number in range(3000)]
    for start in range(0, 3000, 500):
        cache.set_many(dict.fromkeys(keys[start : start + 500], 1), tag="tag")
    assert len(cache) == 3000
    assert cache.evict("tag") == 3000
    with Cache(cache.directory) as other:
        assert len(other) == 0
