#!/usr/bin/env python3
"""Measures what caches cost on a real network drive: requests to the server, and commits a second of two hosts.

    measure.py trips ENGINE FOLDER
        Requests of each operation, as the kernel's NFS client counts them in /proc/self/mountstats.
    measure.py rate ENGINE SECONDS FOLDER[@PREFIX]...
        Commits a second of writers, one a folder, each started through its command prefix.
    measure.py threads SECONDS FOLDER
        Sets a second of one thread and of eight.

ENGINE is ours, diskcache or diskcache-delete (the rollback journal). A table comes first, then a line that is a
report of mounts as JSON, in which the drive is called as the environment variable MOUNT_NAME says. Requests are
counted on a quiet drive: one process, one host, which has written all that is there. `later` is what closing
the cache still cost after the loop, divided alike: clean-up that an engine puts off is part of its price.
"""

import importlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

MODULES = {"ours": "diskcache_rs", "diskcache": "diskcache", "diskcache-delete": "diskcache"}
LOOPS = 100
# What an operation of ours may cost at most, clean-up included.
LIMITS = {
    "set 128 B": 8.0,
    "get hit": 1.05,
    "get miss": 1.05,
    "get hit, 60 s old at most": 0.05,
    "incr": 8.0,
    "set 64 KiB": 8.0,
    "first get of 64 KiB": 4.0,
    "open": 25.0,
}


def report(**rows: list[dict[str, Any]]) -> None:
    """Prints rows as a report of mounts (reports/schema/mounts.schema.json)."""
    name = os.environ.get("MOUNT_NAME", "mount")
    named = {kind: [{"mount": name, **row} for row in those] for kind, those in rows.items()}
    print(json.dumps({"kind": "mounts", "version": 1, **named}), flush=True)


def open_cache(engine: str, folder: str, **settings: Any) -> Any:
    """Opens the cache: no eviction, so that whatever is gone is lost."""
    if engine == "diskcache-delete":
        settings["sqlite_journal_mode"] = "delete"
    cache_class = importlib.import_module(MODULES[engine]).Cache
    return cache_class(folder, timeout=20, eviction_policy="none", cull_limit=0, **settings)


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

    def measure(name: str, times: int, act: Callable[[Any, int], object], warm: int = 2, **settings: Any) -> None:
        cache = open_cache(engine, folder, **settings)
        for number in range(warm):
            cache.get(f"small/{number}")
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
                "limit": LIMITS.get(name) if engine == "ours" else None,
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
    measure("first get of 128 B", LOOPS, lambda cache, n: cache.get(f"small/{n}") == small, warm=0)
    measure("get hit", LOOPS, lambda cache, n: cache.get(f"small/{n % 10}") == small, warm=10)
    measure("get miss", LOOPS, lambda cache, n: cache.get(f"absent/{n}") is None)
    if engine == "ours":
        fresh = {"max_staleness": 60}
        measure(
            "get hit, 60 s old at most", LOOPS, lambda cache, n: cache.get(f"small/{n % 10}") == small, warm=10, **fresh
        )
    measure("incr", LOOPS, lambda cache, n: cache.incr("counter", 1) == n + 1)
    measure("add", LOOPS, lambda cache, n: cache.add(f"added/{n}", small))
    measure("delete", LOOPS, lambda cache, n: cache.delete(f"added/{n}"))
    measure("set 64 KiB", LOOPS, lambda cache, n: cache.set(f"large/{n}", large))
    measure("first get of 64 KiB", LOOPS, lambda cache, n: cache.get(f"large/{n}") == large)
    measure("100 sets in a transaction", 4, batch)
    measure("open", 4, lambda _, n: opened.append(open_cache(engine, folder)) is None)
    return rows


def trips(engine: str, folder: str) -> int:
    """Counts requests. Exit status 1 when one of ours exceeds its limit, the clean-up counted in."""
    os.makedirs(folder, exist_ok=True)
    rows = count_trips(engine, folder)
    print(f"{'requests to the server':<28}{'each':>8}{'later':>8}{'limit':>8}   of these")
    exceeded = False
    for row in rows:
        kinds = ", ".join(f"{count:g} {kind}" for kind, count in row["by_kind"].items() if count >= 0.1)
        over = row["limit"] is not None and row["trips"] + row["later"] > row["limit"]
        exceeded |= over
        limit = "" if row["limit"] is None else f"{row['limit']:g}"
        verdict = "   EXCEEDED" if over else ""
        print(f"{row['operation']:<28}{row['trips']:>8.2f}{row['later']:>8.2f}{limit:>8}   {kinds}{verdict}")
    report(
        trips=[
            {
                "engine": engine,
                "operation": row["operation"],
                # What is put off until the cache is closed is part of the price.
                "trips": row["trips"] + row["later"],
                "kinds": row["by_kind"],
                "limit": row["limit"],
            }
            for row in rows
        ]
    )
    return int(exceeded)


def write_for(engine: str, seconds: float, folder: str) -> None:
    """Says `ready`, waits for a line, increments for so long, and prints how often that was acknowledged."""
    cache = open_cache(engine, folder)
    print("ready", flush=True)
    sys.stdin.readline()
    until, done, failed = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        try:
            cache.incr(f"counter/{done % 7}")
            done += 1
        except Exception:
            failed += 1
    print(json.dumps([done, failed]), flush=True)


def rate(engine: str, seconds: float, places: list[str]) -> int:
    """Writes from several hosts at once. Exit status 1 when a host gets less than a quarter of what two would share."""
    parts = [place.partition("@") for place in places]
    open_cache(engine, parts[0][0]).close()
    writers = [
        subprocess.Popen(
            [*prefix.split(), sys.executable, os.path.abspath(__file__), "write", engine, str(seconds), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for folder, _, prefix in parts
    ]
    ready = [writer.stdout.readline().strip() == "ready" for writer in writers if writer.stdout]
    if not all(ready):
        for writer in writers:
            writer.kill()
        print(f"{engine}: a host could not open the cache")
        return 1
    for writer in writers:
        assert writer.stdin
        print("go", file=writer.stdin, flush=True)
    answers = [json.loads(writer.communicate()[0].strip().splitlines()[-1]) for writer in writers]
    done = [answer[0] for answer in answers]
    fair = min(done) >= sum(done) / len(done) / 2
    verdict = "" if fair else "  UNFAIR"
    print(f"{engine}: {sum(done) / seconds:.0f} commits a second of {len(done)} hosts, {done}{verdict}")
    value = sum(done) / seconds
    what = f"commits a second, {len(done)} hosts writing"
    report(speeds=[{"engine": engine, "what": what, "value": value, "low": value, "high": value, "unit": "1/s"}])
    return int(not fair)


def threads(seconds: float, folder: str) -> int:
    """Sets of one thread, and of eight that share commits. Exit status 1 below four times as many."""
    cache = open_cache("ours", folder)

    def sets(me: int, until: float, out: list[int]) -> None:
        done = 0
        while time.monotonic() < until:
            cache.set(f"{me}/{done % 50}", b"v" * 128)
            done += 1
        out.append(done)

    counts: dict[int, int] = {}
    for many in (1, 8):
        out: list[int] = []
        until = time.monotonic() + seconds
        workers = [threading.Thread(target=sets, args=(me, until, out)) for me in range(many)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        counts[many] = sum(out)
    cache.close()
    one, eight = counts[1] / seconds, counts[8] / seconds
    print(f"one thread {one:.0f} sets a second, eight {eight:.0f}: {eight / one:.2f} times")
    row = {"engine": "ours", "what": "sets of eight threads, as a multiple of one thread's", "unit": "x", "target": 4.0}
    report(speeds=[{**row, "value": eight / one, "low": eight / one, "high": eight / one}])
    return int(counts[8] < 4 * counts[1])


if __name__ == "__main__":
    command, words = sys.argv[1], sys.argv[2:]
    if command == "trips":
        sys.exit(trips(*words))
    if command == "rate":
        sys.exit(rate(words[0], float(words[1]), words[2:]))
    if command == "threads":
        sys.exit(threads(float(words[0]), words[1]))
    if command == "write":
        write_for(words[0], float(words[1]), words[2])
    else:
        sys.exit(__doc__)
