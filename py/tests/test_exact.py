"""Processes that do the same at once: every figure is exact."""

from __future__ import annotations

import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import Cache, FanoutCache

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

PROCESSES = 4


def together(work: Callable[[int], None]) -> None:
    """Fork processes that each do `work`, beginning at the same moment; fail if one fails."""
    start, go = os.pipe()
    children = []
    for number in range(PROCESSES):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(go)
                os.read(start, 1)
                work(number)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    os.close(start)
    os.close(go)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * PROCESSES


@pytest.fixture(params=["local", "network", "fanout"])
def shared(request: Any, tmp_path: Path) -> Any:
    """A cache that the processes share: what holds for one must hold on a network drive, and for shards."""
    if request.param == "fanout":
        return FanoutCache(tmp_path / "cache", timeout=60)
    return Cache(tmp_path / "cache", profile="shared" if request.param == "network" else "local")


def test_every_increment_counts(shared: Any) -> None:
    def work(number: int) -> None:
        own = 0
        for _ in range(2000):
            own += 1
            assert shared.incr("count", retry=True) >= own

    together(work)
    assert shared["count"] == PROCESSES * 2000


def test_each_key_is_added_by_one(shared: Any, tmp_path: Path) -> None:
    def work(number: int) -> None:
        won = [key for key in range(500) if shared.add(key, number, retry=True)]
        (tmp_path / f"won-{number}").write_text(" ".join(map(str, won)))

    together(work)
    claims = {number: {int(key) for key in (tmp_path / f"won-{number}").read_text().split()} for number in range(PROCESSES)}
    assert Counter(key for won in claims.values() for key in won) == dict.fromkeys(range(500), 1)
    assert all(number == shared[key] for number, won in claims.items() for key in won)


@pytest.mark.parametrize("profile", ["local", "shared"])
def test_each_pushed_item_is_pulled_once(tmp_path: Path, profile: Any) -> None:
    cache = Cache(tmp_path / "cache", profile=profile)

    def work(number: int) -> None:
        pulled = []
        for item in range(500):
            cache.push((number, item), prefix="queue", retry=True)
            # Another may have taken the last one just before.
            if item % 2 and (found := cache.pull(prefix="queue", retry=True)[1]) is not None:
                pulled.append(found)
        while (found := cache.pull(prefix="queue", retry=True)[1]) is not None:
            pulled.append(found)
        (tmp_path / f"pulled-{number}").write_text("".join(f"{who} {item}\n" for who, item in pulled))

    together(work)
    lines = [line for number in range(PROCESSES) for line in (tmp_path / f"pulled-{number}").read_text().splitlines()]
    assert Counter(lines) == {f"{number} {item}": 1 for number in range(PROCESSES) for item in range(500)}
    for number in range(PROCESSES):
        own = [line.split() for line in (tmp_path / f"pulled-{number}").read_text().splitlines()]
        for producer in range(PROCESSES):
            items = [int(item) for who, item in own if int(who) == producer]
            assert items == sorted(items)


def test_what_a_transaction_read_is_still_so_when_it_writes(shared: Any) -> None:
    shared["total"] = shared["check"] = 0

    def work(_: int) -> None:
        for _ in range(500):
            with shared.transact(retry=True):
                total, check = shared["total"], shared["check"]
                assert total == check
                shared["total"] = total + 1
                shared["check"] = check + 1

    together(work)
    assert (shared["total"], shared["check"]) == (PROCESSES * 500, PROCESSES * 500)


@pytest.mark.parametrize("profile", ["local", "shared"])
@pytest.mark.parametrize("size", [128, 65_536])
def test_a_value_that_is_overwritten_is_never_missed_nor_torn_in_200_000_reads(tmp_path: Path, size: int, profile: Any) -> None:
    cache = Cache(tmp_path / "cache", size_limit=2**33, profile=profile)
    cache["key"] = bytes(size)
    writer = os.fork()
    if writer == 0:
        number = 0
        while not (tmp_path / "stop").exists():
            number = (number + 1) % 256
            cache["key"] = bytes([number]) * size
        os._exit(0)
    misses = torn = done = 0
    seen = set()
    until = time.monotonic() + 15
    try:
        # The reader may have the processor to itself for a while: it goes on until it met the writer often.
        while done < 200_000 or (len(seen) < 50 and time.monotonic() < until):
            value = cache.get("key")
            done += 1
            if value is None:
                misses += 1
            else:
                seen.add(value[0])
                torn += len(value) != size or value[0] != value[-1] or value[0] != value[size // 2]
    finally:
        (tmp_path / "stop").touch()
        assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == 0
    assert (misses, torn) == (0, 0)
    assert len(seen) >= 50


def test_an_expired_value_is_gone_for_every_process_and_none_before(shared: Any) -> None:
    begun = time.time()
    for key in range(100):
        shared.set(key, key, expire=2)
    stored = time.time()

    def work(_: int) -> None:
        while True:
            before = time.time()
            found = len(shared.get_many(range(100)))
            after = time.time()
            assert found == 100 or after >= begun + 2, f"{100 - found} were missing {begun + 2 - after:.3f} s too early"
            if before > stored + 2:
                assert found == 0
                return

    together(work)
    assert all(key not in shared for key in range(100))


def test_keys_of_every_type_survive_another_process_and_reopening(shared: Any) -> None:
    keys = [
        "text",
        "",
        "ünï",
        b"bytes",
        b"",
        0,
        -1,
        2**62,
        -(2**63),
        2**70,
        1.5,
        -1e300,
        True,
        False,
        None,
        (),
        ("a", (1, None)),
        frozenset("a"),
    ]

    def work(number: int) -> None:
        for place, key in enumerate(keys):
            if place % PROCESSES == number:
                shared[key] = (type(key).__name__, place)

    together(work)
    shared.close()
    again = type(shared)(shared.directory)
    assert len(again) == len(set(map(repr, keys)))
    assert sorted(map(repr, again)) == sorted(map(repr, keys))
    assert [again[key] for key in keys] == [(type(key).__name__, place) for place, key in enumerate(keys)]


@pytest.mark.parametrize(("size", "policy"), [(1_000, "least-recently-stored"), (400_000, "least-recently-used")])
def test_the_drive_holds_no_more_than_a_tenth_over_the_limit(tmp_path: Path, size: int, policy: str) -> None:
    limit = 64 << 20
    cache = Cache(tmp_path / "cache", size_limit=limit, eviction_policy=policy)
    for number in range(3 * limit // size):
        cache[number] = os.urandom(8) * (size // 8)
        if number % 997 == 0:
            cache.get(number)
    used = int(subprocess.run(["du", "-s", "-B1", cache.directory], capture_output=True, text=True, check=True).stdout.split()[0])
    assert used <= limit * 1.1
    assert used >= limit * 0.4
    assert len(cache) * size >= limit * 0.4
