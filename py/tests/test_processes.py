"""Threads, forks and processes share a cache: every count is exact, and nobody waits for the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diskcache_rs import Cache, FanoutCache, Timeout, fanout

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def run_in_children(count: int, work: Callable[[int], None]) -> None:
    """Fork `count` children that each do `work`; fail if one fails."""
    children = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                work(number)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * count


def test_forked_children_count_exactly_with_the_object_of_the_parent(cache: Cache) -> None:
    cache["before"] = 1

    def work(_: int) -> None:
        assert cache["before"] == 1
        for _ in range(500):
            cache.incr("count")

    run_in_children(4, work)
    assert cache["count"] == 2000


def test_a_child_forked_while_maintenance_goes_on_beside_the_writes_works_and_so_does_its_parent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for turn in range(6):
        for number in range(20_000):  # enough for a checkpoint, which a thread of the parent is then busy with
            cache[number] = turn

        def work(child: int, turn: int = turn) -> None:
            assert cache[19_999] == turn
            for number in range(17_000):
                cache[(child, number)] = turn

        run_in_children(2, work)
    assert [cache[(child, 16_999)] for child in range(2)] == [5, 5]
    assert len(cache) == 20_000 + 2 * 17_000
    cache.close()
    # The children ended as if they were killed, perhaps in the middle of a step: that may leave files that nobody names.
    assert all("left this behind" in str(warning.message) for warning in cache.check(fix=True))
    assert cache.check() == []


def test_closing_waits_for_the_thread_beside_the_writes(tmp_path: Path) -> None:
    for turn in range(10):
        with Cache(tmp_path / str(turn)) as cache:
            for number in range(16_500):
                cache[number] = number
        before = sorted(path for path in (tmp_path / str(turn)).rglob("*"))
        time.sleep(0.05)
        assert sorted(path for path in (tmp_path / str(turn)).rglob("*")) == before


def test_of_many_that_add_or_pull_at_once_one_wins(cache: Cache) -> None:
    for number in range(200):
        cache.push(number)

    def work(child: int) -> None:
        for number in range(200):
            if cache.add(("winner", number), child):
                cache.incr("won")
        while (item := cache.pull())[0] is not None:
            cache.incr(("pulled", item[1]))

    run_in_children(4, work)
    assert cache["won"] == 200
    assert [cache[("pulled", number)] for number in range(200)] == [1] * 200


def test_transactions_of_processes_do_not_mix(cache: Cache) -> None:
    cache["total"] = 0

    def work(_: int) -> None:
        for _ in range(100):
            with cache.transact(retry=True):
                cache["total"] = cache["total"] + 1

    run_in_children(4, work)
    assert cache["total"] == 400


def test_threads_share_one_object(cache: Cache) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for step in range(300):
                cache.incr("count")
                cache[number, step] = b"x" * (step * 400)
                assert cache[number, step] == b"x" * (step * 400)
                if step % 100 == 0:
                    with cache.transact():
                        cache.incr("transactions")
                if number == 0 and step % 50 == 0:
                    cache.close()
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert (cache["count"], cache["transactions"], len(cache)) == (1200, 12, 1202)


def test_a_writer_waits_for_a_transaction_of_another_thread_no_longer_than_its_timeout(
    make: Callable[..., Cache],
) -> None:
    cache, other = make(), make(timeout=0.2)
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.transact():
            cache["a"] = 1
            begun.set()
            done.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert begun.wait(10)
        start = time.monotonic()
        with pytest.raises(Timeout):
            other.set("a", 2)
        with pytest.raises(Timeout), other.transact():
            pass
        assert 0.3 < time.monotonic() - start < 5
        assert other.get("a") is None
    finally:
        done.set()
        thread.join()
    assert other["a"] == 1
    assert other.set("a", 3, retry=True)


def test_waiting_lets_other_threads_of_the_interpreter_run(make: Callable[..., Cache]) -> None:
    cache, other = make(), make(timeout=1)
    ticks = 0
    stop = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not stop.wait(0.01):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.transact():
            ready.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert ready.wait(10)
    ticker.start()
    with pytest.raises(Timeout):
        other["a"] = other.set("a", 1)
    stop.set()
    done.set()
    holder.join()
    ticker.join()
    assert ticks > 20


KILLED = """
import sys
from diskcache_rs import Cache
cache = Cache(sys.argv[1])
number = 0
while True:
    cache.set(number % 100, b'%d' % number * 5000)
    cache.incr('count')
    number += 1
    if number % 50 == 0:
        print(number, flush=True)
"""


@pytest.mark.filterwarnings("ignore")
def test_a_killed_writer_loses_nothing_acknowledged_and_blocks_nobody(cache: Cache) -> None:
    acknowledged = 0
    for _ in range(5):
        worker: Any = subprocess.Popen([sys.executable, "-W", "ignore", "-c", KILLED, cache.directory], stdout=subprocess.PIPE, text=True)
        acknowledged += [int(worker.stdout.readline()) for _ in range(3)][-1]
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        start = time.monotonic()
        cache["alive"] = 1
        assert time.monotonic() - start < 10
        assert cache["count"] >= acknowledged
        acknowledged = cache["count"]
        for key in range(100):
            value = cache[key]
            assert value == value[: len(value) // 5000] * 5000
    assert [str(found.message) for found in cache.check()] == []


def test_a_child_that_is_forked_in_a_transaction_is_not_in_it(make: Callable[..., Cache]) -> None:
    """It believed so, and its own transactions would have begun nothing: their parts took effect one by one."""
    cache = make(timeout=0.2)
    with cache.transact():
        cache["a"] = 1

        def work(_: int) -> None:
            assert cache.get("a") is None
            with pytest.raises(Timeout), cache.transact():
                pytest.fail("it is the parent's turn")

        run_in_children(1, work)
    assert cache["a"] == 1


def test_a_child_that_is_forked_while_a_thread_counts_what_was_dropped_can_count_too(tmp_path: Path) -> None:
    cache = FanoutCache(tmp_path / "fanout", shards=1)
    counting = threading.Event()

    def count() -> None:
        with fanout._counting:
            counting.set()
            time.sleep(0.3)

    thread = threading.Thread(target=count)
    thread.start()
    assert counting.wait(10)

    def work(_: int) -> None:
        signal.alarm(20)
        cache._note_dropped("set", Timeout("late"))
        assert cache._dropped == {"set": 1}

    run_in_children(1, work)
    thread.join()


PROGRAM_THAT_ENDS = """
import atexit, sys, time
from diskcache_rs import AsyncCache, Cache, FanoutCache, Lock, memoize_stampede
cache, fanout = Cache(sys.argv[1]), FanoutCache(sys.argv[1] + "-fanout")
lock = Lock(cache, "lock", lease=0.3)
lock.acquire()
fanout["a"] = 1
transaction = fanout.transact()
transaction.__enter__()

@memoize_stampede(cache, expire=60, beta=1e9)
def slow(number):
    time.sleep(0.5)
    return number

slow(1), slow(1)
atexit.register(cache.set, "late", 1)
time.sleep(0.1)
print("done")
"""


def test_a_program_that_ends_with_a_lock_a_transaction_and_a_computation_open_ends_without_a_word(
    make: Callable[..., Cache], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM_THAT_ENDS, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    cache = make()
    assert cache["late"] == 1
    assert cache.check() == []


PROGRAM_WITH_DAEMONS = """
import atexit, sys, threading, time
from diskcache_rs import Cache, FanoutCache
cache, fanout = Cache(sys.argv[1]), FanoutCache(sys.argv[1] + "-fanout")

def work(number):
    turn = 0
    while True:
        turn += 1
        cache.set((number, turn % 100), b"x" * (turn % 3000))
        fanout[turn % 50] = turn
        cache.set_many({"a": b"y" * 100_000, "b": turn})

atexit.register(cache.set, "late", 1)
for number in range(4):
    threading.Thread(target=work, args=(number,), daemon=True).start()
time.sleep(0.3)
print("done")
"""


def test_a_program_ends_in_peace_while_daemon_threads_are_in_the_middle_of_calls(make: Callable[..., Cache], tmp_path: Path) -> None:
    """One in fifteen was aborted: a thread that came back from the engine was ended by unwinding through Rust frames."""
    for turn in range(15):
        command = [sys.executable, "-c", PROGRAM_WITH_DAEMONS, str(tmp_path / f"cache-{turn}")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
    cache = make(tmp_path / "cache-0")
    assert cache["late"] == 1
    assert cache.check() == []


@pytest.mark.parametrize("end", ["", "del cache", "raise SystemExit", "raise OSError"])
def test_a_program_that_ends_without_closing_its_cache_leaves_it_closed(tmp_path: Path, end: str) -> None:
    program = f"""
from diskcache_rs import Cache
cache = Cache({str(tmp_path)!r}, statistics=True)
for number in range(5000):
    cache[number] = number
cache.get(0)
cache.get("missing")
{end}
"""
    subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=60)
    assert any((tmp_path / "run").iterdir())  # A checkpoint: whoever opens the cache replays little.
    with Cache(tmp_path) as cache:
        assert cache.stats() == (1, 1)
        assert len(cache) == 5000
