"""Compares what stands on `Cache` with python-diskcache, paired in one run: FanoutCache, Deque, Index, bulk verbs.

    python py/bench/surface.py --check --json out.json

The libraries take turns within each round, and the best round of each is compared, since what else the machine does can only add.
`--check` exits with 1 below a target: every operation of Deque and Index 8 times as fast, an item of `set_many` 30 times as fast as
one of a loop in a transaction, and a get through FanoutCache at most 1.5 times as long as one of Cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diskcache

import diskcache_rs

LIBRARIES = {"diskcache_rs": diskcache_rs, "diskcache": diskcache}
FACTOR, BULK_FACTOR, FANOUT_RATIO = 8, 30, 1.5
# Batches of the bulk verbs in a round.
BATCHES = 5

# What is done, and how many items it is.
Operation = tuple[str, Callable[[], Any], int]


def each(call: Callable[[Any], Any], items: list[Any]) -> Callable[[], Any]:
    """Return a loop of calls."""

    def loop() -> None:
        for item in items:
            call(item)

    return loop


def deque_operations(library: Any, folder: Path, count: int) -> list[Operation]:
    deque = library.Deque(directory=str(folder / "deque"))
    bounded = library.Deque(directory=str(folder / "bounded"), maxlen=count // 2)
    values, places = [f"value {number}" for number in range(count)], list(range(0, count, max(1, count // 50)))
    return [
        ("Deque.append", each(deque.append, values), count),
        ("Deque.appendleft", each(deque.appendleft, values), count),
        ("Deque.extend", lambda: deque.extend(values), count),
        ("Deque.append, maxlen", each(bounded.append, values), count),
        ("Deque[index]", each(deque.__getitem__, places), len(places)),
        ("Deque[index] =", each(lambda place: deque.__setitem__(place, "other"), places), len(places)),
        ("iter(Deque)", lambda: list(deque), 3 * count),
        ("Deque.peek", each(lambda _: deque.peek(), values), count),
        ("Deque.rotate", lambda: deque.rotate(count // 4), count // 4),
        ("Deque.reverse", lambda: deque.reverse(), 3 * count),
        ("Deque.popleft", each(lambda _: deque.popleft(), values), count),
        ("Deque.pop", each(lambda _: deque.pop(), values), count),
        ("Deque.clear", deque.clear, count),
    ]


def index_operations(library: Any, folder: Path, count: int) -> list[Operation]:
    index = library.Index(str(folder / "index"))
    keys = [f"key {number}" for number in range(count)]
    return [
        ("Index[key] =", each(lambda key: index.__setitem__(key, 1), keys), count),
        ("Index.update", lambda: index.update(dict.fromkeys(keys, 2)), count),
        ("Index[key]", each(index.__getitem__, keys), count),
        ("Index.items", lambda: list(index.items()), count),
        ("Index.setdefault", each(lambda key: index.setdefault(key + "!", 1), keys), count),
        ("Index.peekitem", each(lambda _: index.peekitem(), keys), count),
        ("Index.popitem", each(lambda _: index.popitem(), keys), count),
        ("Index.push", each(index.push, keys), count),
        ("Index.pull", each(lambda _: index.pull(), keys), count),
        ("Index.pop", each(index.pop, keys), count),
    ]


def cache_operations(library: Any, folder: Path, count: int) -> list[Operation]:
    cache, fanout = library.Cache(str(folder / "cache")), library.FanoutCache(str(folder / "fanout"), timeout=60)
    keys = [f"key {number}" for number in range(count)]
    pairs = dict.fromkeys(keys, bytes(64))
    for key in keys:
        cache[key] = fanout[key] = bytes(64)

    def in_a_transaction() -> None:
        with cache.transact():
            for key, value in pairs.items():
                cache.set(key, value)

    def repeated(call: Callable[[], Any]) -> Callable[[], Any]:
        return each(lambda _: call(), [None] * BATCHES)

    ours = hasattr(cache, "set_many")
    return [
        ("Cache.get", each(cache.get, keys), count),
        ("FanoutCache.get", each(fanout.get, keys), count),
        ("set_many", repeated((lambda: cache.set_many(pairs)) if ours else in_a_transaction), BATCHES * count),
        ("get_many", repeated((lambda: cache.get_many(keys)) if ours else each(cache.get, keys)), BATCHES * count),
    ]


def measured(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Return the fewest microseconds an item, by operation and library."""
    samples: dict[str, dict[str, list[float]]] = {}
    for number in range(options.rounds):
        turns = list(LIBRARIES.items())
        for name, library in turns if number % 2 else reversed(turns):
            place = folder / f"{name}-{number}"
            for make in (cache_operations, deque_operations, index_operations):
                for operation, call, items in make(library, place, options.count):
                    start = time.perf_counter()
                    call()
                    took = (time.perf_counter() - start) / items * 1e6
                    samples.setdefault(operation, {}).setdefault(name, []).append(took)
            shutil.rmtree(place, ignore_errors=True)
    return {operation: {name: min(times) for name, times in found.items()} for operation, found in samples.items()}


def misses(found: dict[str, dict[str, float]]) -> list[str]:
    """Return the targets that the figures are below."""
    below = []
    for operation, times in found.items():
        wanted = BULK_FACTOR if operation == "set_many" else FACTOR
        factor = times["diskcache"] / times["diskcache_rs"]
        if factor < wanted:
            below.append(f"{operation}: {factor:.1f} times as fast as diskcache, wanted {wanted}")
    ratio = found["FanoutCache.get"]["diskcache_rs"] / found["Cache.get"]["diskcache_rs"]
    if ratio > FANOUT_RATIO:
        below.append(f"FanoutCache.get: {ratio:.2f} times as long as Cache.get, wanted {FANOUT_RATIO}")
    return below


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=1000, help="operations of one kind in a round")
    parser.add_argument("--folder", default=os.environ.get("TMPDIR"), help="where the caches are made")
    parser.add_argument("--json", help="write all numbers to this file")
    parser.add_argument("--check", action="store_true", help="exit with 1 below a target")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="surface-", dir=options.folder))
    try:
        found = measured(options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'microseconds an item':22s} {'diskcache_rs':>12s} {'diskcache':>12s}")
    for operation, times in found.items():
        ours, theirs = times["diskcache_rs"], times["diskcache"]
        print(f"{operation:22s} {ours:12.2f} {theirs:12.2f}   x{theirs / ours:.1f}")
    ratio = found["FanoutCache.get"]["diskcache_rs"] / found["Cache.get"]["diskcache_rs"]
    print(f"a get through FanoutCache takes {ratio:.2f} times as long as one of Cache")
    below = misses(found)
    if options.json:
        Path(options.json).write_text(json.dumps({"microseconds": found, "below target": below}, indent=1) + "\n")
    if options.check:
        print("\n" + "\n".join(f"below target: {text}" for text in below) if below else "\nevery target is met")
    return 1 if options.check and below else 0


if __name__ == "__main__":
    sys.exit(main())
