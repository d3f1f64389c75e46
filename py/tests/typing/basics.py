"""A program that keeps pages in a cache."""

import os
from pathlib import Path
from typing import assert_type

import diskcache_rs as diskcache
from diskcache_rs import Cache, Timeout


def fetch(cache: Cache, url: str) -> bytes:
    page: bytes | None = cache.get(url)
    if page is None:
        page = url.encode()
        assert_type(cache.set(url, page, expire=3600, tag="pages"), bool)
    return page


def main(directory: str | os.PathLike[str]) -> None:
    with Cache(directory, timeout=5, size_limit=2**30, eviction_policy="least-recently-used") as cache:
        fetch(cache, "a")
        cache["key"] = {"a": 1}
        del cache["key"]
        assert_type("key" in cache, bool)
        assert_type(len(cache), int)
        assert_type(cache.directory, str)
        assert_type(cache.timeout, float)
        assert_type(cache.add("lock", 1), bool)
        assert_type(cache.touch("lock", expire=5), bool)
        assert_type(cache.delete("lock"), bool)
        assert_type(cache.evict("pages"), int)
        assert_type(cache.stats(enable=True), tuple[int, int])
        with cache.transact(retry=True):
            total: int = cache.incr("total", 5)
            count: int = cache.incr("count")
        print(total / count)
        for key in cache:
            print(key, cache[key])
        with cache.read("file") as file:
            print(file.read())
        key, value = cache.pull(prefix="jobs")
        print(key, value)
        for warning in cache.check():
            print(warning.message)
    try:
        diskcache.Cache(Path(directory), profile="shared", durability="host", max_staleness=0.5, read_only=True)
    except Timeout as error:
        print(error)
