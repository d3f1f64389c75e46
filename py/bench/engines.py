"""What is compared: each engine as the same few functions, every one of which says whether it succeeded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Engine:
    """An open cache. `get` returns the value or None, `set` and `delete` whether they did it, `incr` the sum."""

    name: str
    key: Callable[[str], Any]
    set: Callable[[Any, bytes], bool]
    get: Callable[[Any], bytes | None]
    delete: Callable[[Any], bool]
    incr: Callable[[Any], int]
    close: Callable[[], None]


def open_ours(directory: str) -> Engine:
    import diskcache_rs

    if diskcache_rs._native.DEBUG_BUILD:
        raise SystemExit("diskcache_rs was built without optimization: build with `maturin develop --release`")
    cache = diskcache_rs.Cache(directory, size_limit=2**40)
    return Engine("diskcache_rs", str, cache.set, cache.get, cache.delete, cache.incr, cache.close)


def open_diskcache(directory: str) -> Engine:
    import diskcache

    cache = diskcache.Cache(directory, size_limit=2**40)
    return Engine("diskcache", str, cache.set, cache.get, cache.delete, cache.incr, cache.close)


def open_lmdb(directory: str) -> Engine:
    import lmdb

    env = lmdb.open(directory, map_size=2**36, sync=False, writemap=True)
    begin = env.begin

    def put(key: bytes, value: bytes) -> bool:
        with begin(write=True) as transaction:
            return bool(transaction.put(key, value))

    def get(key: bytes) -> bytes | None:
        with begin() as transaction:
            found: bytes | None = transaction.get(key)
            return found

    def delete(key: bytes) -> bool:
        with begin(write=True) as transaction:
            return bool(transaction.delete(key))

    def incr(key: bytes) -> int:
        with begin(write=True) as transaction:
            total = int(transaction.get(key, b"0")) + 1
            transaction.put(key, b"%d" % total)
            return total

    return Engine("lmdb", str.encode, put, get, delete, incr, env.close)


OPENERS: dict[str, Callable[[str], Engine]] = {"diskcache_rs": open_ours, "diskcache": open_diskcache, "lmdb": open_lmdb}


@contextlib.contextmanager
def opened(name: str, directory: str) -> Any:
    """Open an engine for a `with` block."""
    engine = OPENERS[name](directory)
    try:
        yield engine
    finally:
        engine.close()
