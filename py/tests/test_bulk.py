"""Bulk verbs: what single ones do, for many keys, as one change."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import Cache, Disk, FanoutCache, JSONDisk

VALUES = {"int": 1, "text": "ü" * 1000, b"bytes": b"x" * 300_000, 3: None, 2.5: [1, {}], ("a", 1): True}


class Files(Disk):
    """Large values in files of its own."""

    def filename(self, key: Any = None, value: Any = None) -> tuple[str, str]:
        name = f"{os.urandom(8).hex()}.val"
        return name, os.path.join(self._directory, name)


@pytest.fixture(params=["cache", "fanout", "shared", "files"])
def bulk(request: Any, tmp_path: Path) -> Any:
    """A cache of every kind."""
    if request.param == "fanout":
        return FanoutCache(tmp_path, shards=3)
    if request.param == "shared":
        return Cache(tmp_path, profile="shared")
    return Cache(tmp_path, disk=Files if request.param == "files" else Disk)


def test_every_value_is_stored_found_popped_and_deleted(bulk: Any) -> None:
    assert bulk.set_many(VALUES) == len(VALUES)
    assert len(bulk) == len(VALUES)
    found = bulk.get_many([*VALUES, "missing"])
    assert list(found.items()) == list(VALUES.items())
    assert all(bulk[key] == value for key, value in VALUES.items())
    assert bulk.pop_many(["int", b"bytes", "missing"]) == {"int": 1, b"bytes": VALUES[b"bytes"]}
    assert bulk.delete_many(["int", "text", 3]) == 2
    assert sorted(map(repr, bulk)) == sorted(map(repr, [2.5, ("a", 1)]))
    assert bulk.check() == []


def test_nothing_is_no_change(bulk: Any) -> None:
    assert (bulk.set_many({}), bulk.get_many([]), bulk.delete_many([]), bulk.pop_many([])) == (0, {}, 0, {})


def test_all_have_the_expiry_and_the_tag(bulk: Any) -> None:
    bulk.set_many({"a": 1, "b": 2}, expire=100, tag="both")
    value, expire, tag = bulk.get("a", expire_time=True, tag=True)
    assert (value, tag) == (1, "both")
    assert expire == pytest.approx(time.time() + 100, abs=20)
    assert bulk.evict("both") == 2
    bulk.set_many({"a": 1, "b": 2}, expire=-1)
    assert bulk.get_many("ab") == {}
    assert bulk.pop_many("ab") == {}
    assert bulk.delete_many("ab") == 0


def test_the_last_of_the_same_key_counts(bulk: Any) -> None:
    assert bulk.set_many([("a", "x" * 300_000), ("a", "y" * 300_000), ("b", 1)]) == 3
    assert bulk["a"] == "y" * 300_000
    assert bulk.pop_many(["a", "a"]) == {"a": "y" * 300_000}


def test_what_cannot_be_stored_leaves_all_as_it_was(cache: Cache) -> None:
    for bad, error in ((lambda: None, Exception), ("\ud800", UnicodeError)):
        with pytest.raises(error):
            cache.set_many({"a": b"x" * 300_000, "b": bad})
    with pytest.raises(ValueError, match=r"a batch takes at most \d+ bytes .* and this one \d+: make several of it"):
        cache.set_many([("a", b"x" * 300_000), *[("k" * 2**23, 1)] * 30])
    with pytest.raises(ValueError, match="a key has at most 8388608 bytes, this one 8388609"):
        cache.set_many({"a": b"x" * 300_000, "k" * (2**23 + 1): 1})
    with pytest.raises(TypeError, match="tag"):
        cache.set_many({"a": 1}, tag=[])
    assert len(cache) == 0
    assert cache.check() == []


def test_a_batch_belongs_to_the_transaction_around_it(cache: Cache) -> None:
    cache["a"] = 0
    with pytest.raises(RuntimeError), cache.transact():
        cache.set_many({"a": 1, "b": 2})
        assert cache.get_many("abc") == {"a": 1, "b": 2}
        assert cache.pop_many("ab") == {"a": 1, "b": 2}
        raise RuntimeError
    assert cache.get_many("ab") == {"a": 0}


def test_a_disk_that_converts_values_is_asked(make: Callable[..., Cache]) -> None:
    cache = make(disk=JSONDisk)
    cache.set_many({"a": [1, None], "b": {"c": 2}})
    assert cache.get_many("abc") == {"a": [1, None], "b": {"c": 2}}
    assert cache.pop_many("ab") == {"a": [1, None], "b": {"c": 2}}


def test_batches_keep_the_size_limit(make: Callable[..., Cache]) -> None:
    cache = make(size_limit=2**20, eviction_policy="least-recently-stored")
    for turn in range(20):
        cache.set_many({(turn, number): b"x" * 10_000 for number in range(20)})
    assert 30 < len(cache) < 120
    assert (19, 19) in cache


def test_a_batch_is_seen_whole_or_not_at_all(make: Callable[..., Cache]) -> None:
    cache = make()
    cache.set_many(dict.fromkeys(range(50), 0))
    pid = os.fork()
    if pid == 0:
        for turn in range(300):
            cache.set_many(dict.fromkeys(range(50), turn))
        os._exit(0)
    torn = looks = 0
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        with cache.transact(retry=True):
            torn += len(set(cache.get_many(range(50)).values())) != 1
        looks += 1
    assert torn == 0
    assert looks > 0
