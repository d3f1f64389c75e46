"""`FanoutCache`: shards that are caches, routing that never changes, and time-outs that are not silent."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import diskcache
import pytest

from diskcache_rs import Cache, Disk, FanoutCache, Timeout

KEYS = ["text", "ünï", b"bytes", "x" * 6000, 1, -1, 2**40, -(2**63), 2**64, 1.5, -0.0, 1e300, True, None, ("a", 1), frozenset("a")]


@pytest.fixture
def fanout(tmp_path: Path) -> Iterator[Callable[..., FanoutCache]]:
    """Open caches of the same directory."""
    opened: list[FanoutCache] = []

    def open_cache(**options: Any) -> FanoutCache:
        opened.append(FanoutCache(tmp_path / "fanout", **options))
        return opened[-1]

    yield open_cache
    for cache in opened:
        cache.close()


def test_each_key_is_in_the_shard_that_python_diskcache_gives_it(fanout: Callable[..., FanoutCache], tmp_path: Path) -> None:
    cache = fanout(disk_pickle_protocol=4)
    theirs = diskcache.Disk(str(tmp_path), pickle_protocol=4)
    for key in KEYS:
        cache[key] = repr(key)
        assert [key in shard for shard in cache._shards].index(True) == theirs.hash(key) % 8, key
        assert cache._hash(key) == theirs.hash(key)
        assert cache[key] == repr(key)
    assert len(cache) == len(KEYS)
    assert sorted(os.listdir(cache.directory)) == [f"{number:03d}" for number in range(8)]


def test_another_process_finds_every_key(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout(shards=5)
    for number in range(100):
        cache[f"key {number}"] = number
    code = (
        "import sys; from diskcache_rs import FanoutCache; print(sum(FanoutCache(sys.argv[1], shards=5)[f'key {n}'] for n in range(100)))"
    )
    out = subprocess.run([sys.executable, "-W", "ignore", "-c", code, cache.directory], capture_output=True, text=True, check=True)
    assert out.stdout == "4950\n"


def test_settings_are_those_of_the_shards_and_the_limit_is_divided(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout(shards=4, size_limit=2**22, eviction_policy="least-recently-used", timeout=3)
    assert [shard.size_limit for shard in cache._shards] == [2**20] * 4
    assert (cache.size_limit, cache.eviction_policy, cache.timeout, type(cache.disk)) == (2**20, "least-recently-used", 3, Disk)
    assert cache.reset("cull_limit", 3) == 3
    assert {shard.cull_limit for shard in cache._shards} == {3}
    with pytest.raises(AttributeError):
        cache.no_such_name
    with pytest.raises(ValueError, match="shards"):
        fanout(shards=0)


def test_a_pickled_cache_is_the_same_cache_with_its_settings(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout(shards=3, size_limit=3 * 2**20, timeout=2, durability="host")
    cache["a"] = 1
    for other in (pickle.loads(pickle.dumps(cache)), copy.copy(cache)):
        assert (other["a"], other._count, other.timeout, other.size_limit) == (1, 3, 2, 2**20)
        assert other._shards[0]._options == {"durability": "host"}


def test_a_verb_that_times_out_is_counted_and_said_once(fanout: Callable[..., FanoutCache], caplog: Any) -> None:
    cache, other = fanout(shards=1), fanout(shards=1, timeout=0.05)
    cache["count"] = 1
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.transact():
            begun.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(10)
        with caplog.at_level(logging.WARNING, "diskcache_rs"):
            assert other.set("a", 1) is False
            assert other.add("a", 1) is False
            assert other.touch("count") is False
            assert other.delete("count") is False
            assert other.incr("count") is None
            assert other.decr("count") is None
            assert other.pop("count", "default") == "default"
            assert other.set_many({"a": 1, "b": 2}) == 0
            assert other.delete_many(["count"]) == 0
            assert other.pop_many(["count"]) == {}
            assert other.get("count") == 1
    finally:
        done.set()
        thread.join()
    assert [record.name for record in caplog.records] == ["diskcache_rs"]
    assert "set" in caplog.text
    assert cache.directory in caplog.text
    stats = other.stats(reset=True)
    assert stats == (0, 0)
    once = dict.fromkeys(["set", "add", "touch", "delete", "incr", "decr", "pop", "delete_many", "pop_many"], 1)
    assert stats.dropped == {**once, "set_many": 2}
    assert other.stats().dropped == {}
    assert other["count"] == 1


def test_what_must_be_done_waits_or_raises(fanout: Callable[..., FanoutCache]) -> None:
    cache, other = fanout(shards=1), fanout(shards=1, timeout=0.05)
    begun = threading.Event()

    def hold() -> None:
        with cache.transact():
            begun.set()
            threading.Event().wait(0.3)

    thread = threading.Thread(target=hold)
    thread.start()
    assert begun.wait(10)
    other["a"] = 1
    thread.join()
    assert other.set("b", 2, retry=True)
    assert other.stats().dropped == {}


def test_a_read_that_times_out_returns_the_default(fanout: Callable[..., FanoutCache], monkeypatch: Any) -> None:
    class Late(Cache):
        def get(self, *args: Any, **kwargs: Any) -> Any:
            raise Timeout("late")

        def get_many(self, *args: Any, **kwargs: Any) -> Any:
            raise Timeout("late")

    cache = fanout(shards=2)
    cache["a"] = 1
    shards = cache._shards
    cache._shards = tuple(Late(shard.directory) for shard in shards)
    assert cache.get("a", "default") == "default"
    assert cache.get_many(["a", "b"]) == {}
    assert cache.stats().dropped == {"get": 1, "get_many": 2}
    cache._shards = shards
    assert cache.get("a") == 1


def test_a_transaction_holds_all_shards_and_is_taken_back_whole(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout(shards=4)
    with cache.transact():
        for number in range(20):
            cache[number] = number
    assert len(cache) == 20
    with pytest.raises(RuntimeError), cache.transact():
        cache.clear()
        raise RuntimeError
    assert sorted(cache) == list(range(20))
    with pytest.raises(ValueError, match="retry"), cache.transact(retry=False):
        pass


def test_parts_have_names_and_folders_of_their_own(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout()
    assert cache.cache("a/b").directory == os.path.join(cache.directory, "cache", "a", "b")
    cache.deque("jobs", maxlen=2).extend("abc")
    assert list(cache.deque("jobs")) == ["b", "c"]
    cache.index("users")["ada"] = 1
    assert dict(fanout().index("users")) == {"ada": 1}
    assert cache.index("users").cache.eviction_policy == "none"
    assert len(cache) == 0


class Reversed(Disk):
    """Keys that only Python knows."""

    def put(self, key: Any) -> tuple[Any, bool]:
        return super().put(key[::-1])

    def get(self, key: Any, raw: bool) -> Any:
        return super().get(key, raw)[::-1]


class OwnHash(Disk):
    """All keys in one shard."""

    def hash(self, key: Any) -> int:
        return 3


@pytest.mark.parametrize("disk", [Reversed, OwnHash])
def test_a_disk_with_keys_or_a_hash_of_its_own_is_asked(fanout: Callable[..., FanoutCache], disk: type[Disk]) -> None:
    cache = fanout(disk=disk)
    for number in range(30):
        cache[f"key-{number}"] = number
    assert sorted(cache) == sorted(f"key-{number}" for number in range(30))
    assert [cache.get(f"key-{number}") for number in range(30)] == list(range(30))
    assert "key-1" in cache
    assert cache.incr("key-1", 5) == 6
    assert cache.pop("key-1") == 6
    del cache["key-2"]
    assert not cache.delete("key-2")
    with pytest.raises(KeyError):
        cache["key-2"]
    if disk is OwnHash:
        assert len(cache._shards[3]) == len(cache) == 28


def test_iteration_goes_through_the_shards_and_back(fanout: Callable[..., FanoutCache]) -> None:
    cache = fanout()
    cache.set_many((number, number) for number in range(100))
    assert sorted(cache) == list(range(100))
    assert list(reversed(cache)) == list(cache)[::-1]
