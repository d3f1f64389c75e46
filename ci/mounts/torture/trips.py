"""Counts what one operation asks of an NFS server, from the kernel's own books: /proc/self/mountstats.

Quiet drive, one process, one host, which has written all that is there. Each row is a loop of one operation; the
count is the difference of the client's request counters over the loop, divided by its length. `later` is what closing
the cache still cost after the loop, divided alike: clean-up that an engine puts off is part of its price.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine import open_cache

LOOPS = 100


def requests(mount: str) -> Counter[str]:
    """Returns how many requests of each kind the client of this mount has sent so far."""
    counts: Counter[str] = Counter()
    here = False
    with open("/proc/self/mountstats") as lines:
        for line in lines:
            if line.startswith("device "):
                here = f" mounted on {mount} " in line
            elif here and (row := re.match(r"\s+([A-Z_]+): (\d+) ", line)):
                counts[row[1]] += int(row[2])
    return counts


def mount_of(folder: str) -> str:
    """Returns the mount point that a folder lies on."""
    folder = os.path.realpath(folder)
    while not os.path.ismount(folder):
        folder = os.path.dirname(folder)
    return folder


def count_trips(engine: str, folder: str) -> list[dict[str, Any]]:
    """Returns a row an operation."""
    mount = mount_of(folder)
    rows: list[dict[str, Any]] = []

    def measure(name: str, times: int, act: Callable[[Any, int], object], **settings: Any) -> None:
        cache = open_cache(engine, folder, **settings)
        for warm in range(2):
            cache.get(f"warm/{warm}")
        start = requests(mount)
        for number in range(times):
            if not act(cache, number):
                # A fast answer of an operation that failed is no figure.
                raise RuntimeError(f"{name}: number {number} did not succeed")
        done = requests(mount)
        cache.close()
        spent, after = done - start, requests(mount) - done
        rows.append(
            {
                "operation": name,
                "trips": sum(spent.values()) / times,
                "later": sum(after.values()) / times,
                "by_kind": {kind: round(count / times, 2) for kind, count in spent.most_common()},
                "later_by_kind": {kind: round(count / times, 2) for kind, count in after.most_common()},
            }
        )

    def batch(cache: Any, number: int) -> bool:
        with cache.transact():
            return all(cache.set(f"batch/{number}/{item}", b"b" * 128) for item in range(100))

    small, large = b"s" * 128, b"l" * 65_536
    opened: list[Any] = []
    open_cache(engine, folder).close()
    measure("set 128 B", LOOPS, lambda cache, n: cache.set(f"small/{n}", small))
    measure("get hit", LOOPS, lambda cache, n: cache.get(f"small/{n}") == small)
    measure("get miss", LOOPS, lambda cache, n: cache.get(f"absent/{n}") is None)
    if engine == "ours":
        measure("get hit, 60 s old at most", LOOPS, lambda cache, n: cache.get(f"small/{n}") == small, max_staleness=60)
    measure("incr", LOOPS, lambda cache, n: cache.incr("counter", 1) == n + 1)
    measure("add", LOOPS, lambda cache, n: cache.add(f"added/{n}", small))
    measure("delete", LOOPS, lambda cache, n: cache.delete(f"added/{n}"))
    measure("set 64 KiB", 20, lambda cache, n: cache.set(f"large/{n}", large))
    measure("get 64 KiB", 20, lambda cache, n: cache.get(f"large/{n}") == large)
    measure("100 sets in a transaction", 4, batch)
    measure("open", 4, lambda _, n: opened.append(open_cache(engine, folder)) is None)
    return rows


def print_trips(engine: str, folder: str) -> None:
    """Prints the rows as JSON."""
    os.makedirs(folder, exist_ok=True)
    try:
        print(json.dumps({"rows": count_trips(engine, folder)}))
    except Exception as error:
        print(json.dumps({"rows": [], "error": f"{type(error).__name__}: {error}"}))
