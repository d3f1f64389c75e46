"""What is compared: each engine as the same few functions, every one of which says whether it succeeded.

A number is worth nothing when the operation behind it failed, so no function here may fail in silence: `set` and `delete` return
whether they did it, `get` returns the value or None, `incr` the sum, `keys` how many keys it walked, `set_many` how many it stored.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Durability = Literal["process", "host"]
"""What an acknowledged write survives: `process` the death of the process (no sync), `host` a power cut (each write is synced)."""

LIMIT = 2**40
"""No size limit that a benchmark could meet, in bytes."""
LMDB_MAP = 2**37
"""How large an LMDB file may grow, in bytes: sparse, so that it costs nothing."""


@dataclass(frozen=True)
class Engine:
    """An open cache. What it does not have is None."""

    name: str
    key: Callable[[int], Any]
    get: Callable[[Any], bytes | None]
    set: Callable[[Any, bytes], bool]
    delete: Callable[[Any], bool]
    incr: Callable[[Any], int] | None
    push: Callable[[bytes], Any] | None
    pull: Callable[[], bytes | None] | None
    keys: Callable[[], int]
    set_many: Callable[[Iterable[tuple[Any, bytes]]], int]
    close: Callable[[], None]


def text_key(number: int) -> str:
    return f"key-{number:08d}"


def bytes_key(number: int) -> bytes:
    return b"key-%08d" % number


def count(items: Iterable[Any]) -> int:
    """Walk through all of them at the speed of C."""
    counter = itertools.count()
    for _ in zip(items, counter, strict=False):
        pass
    # `zip` asks for an item first: at the end no number was taken in vain.
    return next(counter)


def ours(directory: Path, durability: Durability) -> Engine:
    import diskcache_rs

    cache = diskcache_rs.Cache(str(directory), size_limit=LIMIT, durability=durability)
    return of_ours("diskcache_rs", cache)


def ours_fanout(directory: Path, durability: Durability) -> Engine:
    import diskcache_rs

    return of_ours(
        "diskcache_rs.Fanout",
        diskcache_rs.FanoutCache(str(directory), shards=8, timeout=60, size_limit=LIMIT, durability=durability),
    )


def of_ours(name: str, cache: Any) -> Engine:
    from diskcache_rs import _native

    if _native.DEBUG_BUILD:
        raise SystemExit("diskcache_rs was built without optimization; ./ci/setup builds it with")
    return of_cache(name, cache, lambda items: int(cache.set_many(dict(items))))


def diskcache(directory: Path, durability: Durability) -> Engine:
    import diskcache as upstream

    return of_diskcache("diskcache", upstream.Cache(str(directory), size_limit=LIMIT, sqlite_synchronous=synchronous(durability)))


def diskcache_fanout(directory: Path, durability: Durability) -> Engine:
    import diskcache as upstream

    cache = upstream.FanoutCache(str(directory), shards=8, timeout=60, size_limit=LIMIT, sqlite_synchronous=synchronous(durability))
    return of_diskcache("diskcache.Fanout", cache)


def synchronous(durability: Durability) -> int:
    """SQLite's NORMAL (python-diskcache's default: no sync a commit with a write-ahead log), or FULL."""
    return 2 if durability == "host" else 1


def of_diskcache(name: str, cache: Any) -> Engine:
    def set_many(items: Iterable[tuple[Any, bytes]]) -> int:
        # A FanoutCache has transactions of all its shards at once only, which would lock all for each batch.
        with contextlib.nullcontext() if is_fanout(name) else cache.transact():
            return sum(cache.set(key, value) for key, value in items)

    return of_cache(name, cache, set_many)


def is_fanout(name: str) -> bool:
    return name.endswith(".Fanout")


def of_cache(name: str, cache: Any, set_many: Callable[[Iterable[tuple[Any, bytes]]], int]) -> Engine:
    """What both packages have in common: their interface. A FanoutCache has no queue."""

    def pull() -> bytes | None:
        found: bytes | None = cache.pull()[1]
        return found

    return Engine(
        name=name,
        key=text_key,
        get=cache.get,
        set=cache.set,
        delete=cache.delete,
        incr=cache.incr,
        push=None if is_fanout(name) else cache.push,
        pull=None if is_fanout(name) else pull,
        keys=lambda: count(cache),
        set_many=set_many,
        close=cache.close,
    )


def lmdb(directory: Path, durability: Durability) -> Engine:
    import lmdb as rival

    env = rival.open(str(directory), map_size=LMDB_MAP, sync=durability == "host", writemap=durability == "process")
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

    def keys() -> int:
        with begin() as transaction, transaction.cursor() as cursor:
            return count(cursor.iternext(keys=True, values=False))

    def set_many(items: Iterable[tuple[Any, bytes]]) -> int:
        pairs = list(items)
        with begin(write=True) as transaction, transaction.cursor() as cursor:
            consumed, _ = cursor.putmulti(pairs)
            return int(consumed)

    return Engine("lmdb", bytes_key, get, put, delete, incr, None, None, keys, set_many, env.close)


def rocksdict(directory: Path, durability: Durability) -> Engine:
    import rocksdict as rival

    options = rival.Options(raw_mode=True)
    options.create_if_missing(True)
    db = rival.Rdict(str(directory), options)
    writes = rival.WriteOptions()
    writes.sync = durability == "host"
    db.set_write_options(writes)

    def put(key: bytes, value: bytes) -> bool:
        db[key] = value  # raises when it fails
        return True

    def get(key: bytes) -> bytes | None:
        found: bytes | None = db.get(key)
        return found

    def delete(key: bytes) -> bool:
        del db[key]
        return True

    def incr(key: bytes) -> int:
        total = int(db.get(key) or b"0") + 1
        db[key] = b"%d" % total
        return total

    def set_many(items: Iterable[tuple[Any, bytes]]) -> int:
        batch = rival.WriteBatch(raw_mode=True)
        for key, value in items:
            batch.put(key, value)
        done = len(batch)
        db.write(batch)
        return done

    return Engine("rocksdict", bytes_key, get, put, delete, incr, None, None, lambda: count(db.keys()), set_many, db.close)


def floor(_directory: Path, _durability: Durability) -> Engine:
    """Functions that do nothing: what the loop and the calls themselves cost."""
    held = b""

    def get(_key: Any) -> bytes | None:
        return held

    def put(_key: Any, _value: bytes) -> bool:
        return True

    def delete(_key: Any) -> bool:
        return True

    def incr(_key: Any) -> int:
        return 1

    def push(_value: bytes) -> int:
        return 1

    def pull() -> bytes | None:
        return held

    return Engine("floor", text_key, get, put, delete, incr, push, pull, lambda: 0, lambda items: count(items), lambda: None)


OPENERS: dict[str, Callable[[Path, Durability], Engine]] = {
    "diskcache_rs": ours,
    "diskcache_rs.Fanout": ours_fanout,
    "diskcache": diskcache,
    "diskcache.Fanout": diskcache_fanout,
    "lmdb": lmdb,
    "rocksdict": rocksdict,
    "floor": floor,
}

OURS = "diskcache_rs"
UPSTREAM = "diskcache"
MODULES = {"diskcache_rs": "diskcache-rs", "diskcache": "diskcache", "lmdb": "lmdb", "rocksdict": "rocksdict"}


def available() -> list[str]:
    """Return the engines whose packages are installed."""
    return [name for name in OPENERS if name == "floor" or importlib.util.find_spec(name.partition(".")[0]) is not None]


def versions() -> dict[str, str]:
    """Return the version of each engine's package that is installed."""
    found = {}
    for module, package in MODULES.items():
        try:
            found[package] = importlib.metadata.version(module if module == "diskcache_rs" else package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def open_engine(name: str, directory: Path, durability: Durability = "process") -> Engine:
    """Open an engine in a folder, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    return OPENERS[name](directory, durability)
