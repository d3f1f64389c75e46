"""What a commit can hold is no concern of the caller: long keys, large batches, transactions and removals."""

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


def test_keys_of_megabytes_are_keys_like_others(roomy: Cache) -> None:
    keys: list[Any] = ["k" * 2**23, b"b" * (5 * 2**20), ("tuple", "t" * (5 * 2**20)), "\u00e9" * 2**22]
    for number, key in enumerate(keys):
        roomy.set(key, number, tag=number % 2)
    assert list(roomy) == keys
    assert [roomy[key] for key in keys] == [0, 1, 2, 3]
    assert roomy.incr(keys[0]) == 1
    assert roomy.evict(1) == 2
    with Cache(roomy.directory) as other:
        assert list(other) == [keys[0], keys[2]]
        assert other.pop(keys[2]) == 2
    del roomy[keys[0]]
    assert len(roomy) == 0
    too_long = "k" * (2**23 + 1)
    stores: list[Callable[[], Any]] = [
        lambda: roomy.set(too_long, 1),
        lambda: roomy.add(too_long, 1),
        lambda: roomy.incr(too_long),
        lambda: roomy.set_many({too_long: 1}),
        lambda: roomy.delete(too_long),
    ]
    for store in stores:
        with pytest.raises(ValueError, match="a key has at most 8388608 bytes, this one 8388609"):
            store()
    assert (roomy.get(too_long), too_long in roomy) == (None, False)


def test_3000_keys_of_100_kib_are_evicted_between_hosts(make: Callable[..., Cache]) -> None:
    cache = make(profile="shared", size_limit=2**40, cull_limit=0)
    keys = [f"{number:05};" * (100 * 1024 // 6) for number in range(3000)]
    for start in range(0, 3000, 500):
        cache.set_many(dict.fromkeys(keys[start : start + 500], 1), tag="tag")
    assert len(cache) == 3000
    assert cache.evict("tag") == 3000
    with Cache(cache.directory) as other:
        assert len(other) == 0
