"""Recipes: locks outlive killed holders and never pass two through the fence; counts are exact under contention."""

from __future__ import annotations

import contextlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_processes import run_in_children

import diskcache_rs
from diskcache_rs import Averager, BoundedSemaphore, Cache, FanoutCache, Lock, LockLost, RLock, _lease, _retry, barrier, throttle

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

FACTORIES: list[Callable[..., Any]] = [Lock, RLock, BoundedSemaphore]

HOLDER = """
import sys, time
import diskcache_rs
cache = diskcache_rs.Cache(sys.argv[1], **eval(sys.argv[4]))
lock = getattr(diskcache_rs, sys.argv[2])(cache, 'key', lease=float(sys.argv[3]))
lock.acquire()
print(lock.token, flush=True)
time.sleep(600)
"""


def holder(cache: Cache, kind: str, lease: float, **options: Any) -> tuple[subprocess.Popen[str], int]:
    """Start a process that acquires and never releases; return it and its token."""
    command = [sys.executable, "-W", "ignore", "-c", HOLDER, cache.directory, kind, str(lease), repr(options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(params=["local", "shared"])
def drive(request: pytest.FixtureRequest, make: Callable[..., Cache]) -> Cache:
    return make(profile=request.param)


def test_the_average_of_processes_misses_nothing(drive: Cache) -> None:
    def work(child: int) -> None:
        average = Averager(drive, "average")
        for number in range(50):
            average.add(child * 50 + number)

    run_in_children(4, work)
    assert drive["average"][1] == 200
    assert Averager(drive, "average").pop() == 99.5
    assert Averager(drive, "average").get() is None


@pytest.mark.parametrize("factory", FACTORIES)
def test_four_processes_exclude_each_other_and_their_tokens_grow(drive: Cache, factory: Callable[..., Any]) -> None:
    rounds = 100 if drive._options["profile"] == "local" else 25
    drive["count"], drive["tokens"] = 0, ()

    def work(_: int) -> None:
        lock = factory(drive, "key")
        for _ in range(rounds):
            with lock:
                assert lock.held
                # Read and written apart: nothing but the lock keeps this exact.
                drive["count"] = drive["count"] + 1
                drive["tokens"] = (*drive["tokens"], lock.token)

    run_in_children(4, work)
    assert drive["count"] == 4 * rounds
    tokens = drive["tokens"]
    assert list(tokens) == sorted(set(tokens))


def test_a_semaphore_never_has_more_holders_than_slots_and_fills_them(drive: Cache) -> None:
    drive["most"] = 0

    def work(_: int) -> None:
        semaphore = BoundedSemaphore(drive, "key", value=2)
        for _ in range(10):
            with semaphore:
                inside = drive.incr("inside")
                assert inside <= 2
                time.sleep(0.01)
                # (A transaction on a network drive may have to be run again.)
                _retry.atomically(drive, lambda inside=inside: drive.set("most", max(drive["most"], inside)))  # type: ignore[misc]
                drive.decr("inside")

    run_in_children(4, work)
    assert (drive["inside"], drive["most"]) == (0, 2)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore"])
def test_a_killed_holder_is_noticed_at_once_on_its_host(drive: Cache, kind: str) -> None:
    process, token = holder(drive, kind, lease=600)
    lock = getattr(diskcache_rs, kind)(drive, "key", lease=600)
    taken = threading.Event()

    def wait() -> None:
        with lock:
            taken.set()
            taken_token.append(lock.token)

    taken_token: list[int] = []
    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        assert not taken.wait(0.3)
    finally:
        end(process)
        start = time.monotonic()
        waiter.join(20)
    assert time.monotonic() - start < 5
    assert taken_token[0] > token


def test_a_killed_holder_of_another_host_is_followed_when_its_lease_is_over(drive: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    # (Long enough for a busy machine to renew it in time.)
    process, token = holder(drive, "Lock", lease=5)
    # As another host sees it, whose processes have other numbers.
    monkeypatch.setattr(_lease, "_host", lambda: "elsewhere")
    lock = Lock(drive, "key")
    waiter = threading.Thread(target=lock.acquire)
    waiter.start()
    waiter.join(7)
    # Its holder lives and renews: beyond the lease it is still taken.
    assert waiter.is_alive()
    end(process)
    start = time.monotonic()
    waiter.join(30)
    assert 1 < time.monotonic() - start < 20
    assert lock.token is not None
    assert lock.token > token
    lock.release()


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_holder_that_was_suspended_learns_that_it_lost_and_cannot_pass_the_fence(
    drive: Cache, factory: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = factory(drive, "key", lease=2.0), factory(drive, "key")
    # What a suspended process does not do: renew.
    monkeypatch.setattr(_lease.Renewer, "_renew", lambda self, hold: time.sleep(0.05))
    first.acquire()
    assert first.held
    with first.fenced():
        drive["written"] = first.token
    before = first.token
    taken = threading.Event()
    done = threading.Event()

    def take() -> None:
        with second:
            with second.fenced():
                drive["written"] = second.token
            taken.set()
            done.wait(10)

    other = threading.Thread(target=take)
    other.start()
    try:
        assert taken.wait(20)
        assert not first.held
        with pytest.raises(LockLost, match="was lost"), first.fenced():
            drive["written"] = "by the late holder"
        assert drive["written"] > before
        # Its late release takes nothing from the new holder.
        if factory is Lock:
            first.release()
        else:
            with pytest.raises(AssertionError, match="un-acquired"):
                first.release()
        assert len(_lease.entries_of(drive["key"])) == 1
        with pytest.raises(LockLost, match="not held"), first.fenced():
            pass
    finally:
        done.set()
        other.join()


def test_a_suspended_process_is_followed_and_its_late_write_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    process, token = holder(cache, "Lock", lease=1.0)
    try:
        process.send_signal(signal.SIGSTOP)
        lock = Lock(cache, "key")
        start = time.monotonic()
        lock.acquire()
        # It is alive: only the lease tells.
        assert 0.9 < time.monotonic() - start < 10
        assert lock.token is not None
        assert lock.token > token
        process.send_signal(signal.SIGCONT)
        time.sleep(1.0)
        assert lock.held
        with lock.fenced():
            cache["written"] = lock.token
        lock.release()
    finally:
        end(process)


def test_a_lease_is_renewed_for_as_long_as_the_process_lives(drive: Cache) -> None:
    lock = Lock(drive, "key", lease=3)
    with lock:
        beats = set()
        for _ in range(20):
            time.sleep(0.2)
            assert lock.held
            beats.add(_lease.entries_of(drive["key"])[0].beat)
        assert len(beats) >= 3
    deadline = time.monotonic() + 10
    while _lease.renewer(drive)._runs:
        assert time.monotonic() < deadline, "the thread that renews does not end"
        time.sleep(0.05)


def test_a_lock_that_is_released_by_force_is_lost(cache: Cache) -> None:
    lock = Lock(cache, "key", lease=0.6)
    lock.acquire()
    Lock(cache, "key").release()
    assert not lock.locked()
    deadline = time.monotonic() + 10
    while lock.held:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(LockLost), lock.fenced():
        pass


def test_with_expire_a_lock_is_free_after_that_time_and_not_before(cache: Cache) -> None:
    lock, other = Lock(cache, "key", expire=1.0), Lock(cache, "key", expire=60, tag="locks")
    start = time.monotonic()
    lock.acquire()
    other.acquire()
    assert 0.8 < time.monotonic() - start < 10
    assert (lock.held, other.held) == (False, True)
    assert cache.get("key", expire_time=True, tag=True)[1:] == (pytest.approx(time.time() + 60, abs=5), "locks")
    lock.release()
    assert other.held
    assert other.locked()


def test_a_reentrant_lock_counts_over_objects_of_one_thread_only(drive: Cache) -> None:
    first, second = RLock(drive, "key"), RLock(drive, "key")
    with first:
        token = first.token
        with second:
            assert second.token == token
        assert first.held
        taken = threading.Event()
        other = threading.Thread(target=lambda: (RLock(drive, "key").acquire(), taken.set()))
        other.start()
        assert not taken.wait(0.3)
    assert taken.wait(10)
    other.join()
    with pytest.raises(AssertionError, match="un-acquired"):
        first.release()


def test_objects_that_never_acquired_release_as_in_python_diskcache(cache: Cache) -> None:
    lock = Lock(cache, "lock")
    lock.acquire()
    moved = pickle.loads(pickle.dumps(lock))
    assert (moved.held, moved.token) == (False, None)
    moved.release()
    assert not lock.locked()
    semaphore = BoundedSemaphore(cache, "semaphore", value=2)
    semaphore.acquire()
    BoundedSemaphore(cache, "semaphore", value=2).release()
    with pytest.raises(AssertionError):
        semaphore.release()
    assert "semaphore" not in cache


def test_what_python_diskcache_left_under_a_key_is_taken_for_free(cache: Cache) -> None:
    for factory, left in ((Lock, None), (RLock, ("1234-5678", 1)), (BoundedSemaphore, 0)):
        cache["key"] = left
        with factory(cache, "key"):
            assert len(_lease.entries_of(cache["key"])) == 1


def test_a_forked_child_does_not_believe_in_the_locks_of_its_parent(cache: Cache) -> None:
    lock, again = Lock(cache, "key"), RLock(cache, "again")
    with lock, again:

        def work(_: int) -> None:
            assert not lock.held
            with pytest.raises(AssertionError):
                again.release()

        run_in_children(1, work)
        assert lock.held
        assert again.held


def test_the_fence_goes_on_above_where_it_was_when_its_counter_is_lost(cache: Cache) -> None:
    lock = Lock(cache, "key")
    with lock:
        first = lock.token
    cache.clear()
    time.sleep(0.01)
    with lock:
        assert lock.token is not None
        assert first is not None
        assert lock.token > first


def test_waiters_rest_longer_where_a_look_takes_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, rests = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", rests.append)
    monkeypatch.setattr(_retry.random, "uniform", lambda low, high: 1.0)
    local = _retry.Backoff()
    for _ in range(20):
        local.rest()
    assert rests[0] == 0.001
    assert rests == sorted(rests)
    assert rests[-1] == 0.05
    network = _retry.Backoff()
    rests.clear()
    for _ in range(20):
        clock[0] += 0.02
        network.rest()
    assert (rests[0], rests[-1]) == (pytest.approx(0.08), pytest.approx(0.16))


def test_a_conflict_runs_a_step_again_and_an_unknown_outcome_is_found_out(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit may fail for certain, or fail without saying whether it took effect: an average counts once, a lock is held once."""
    commit = Cache._commit
    failures: list[Exception] = [diskcache_rs.TransactionConflict("lost"), diskcache_rs.TransactionConflict("lost")]

    def fails(self: Cache) -> None:
        failure = failures.pop(0) if failures else None
        if isinstance(failure, diskcache_rs.TransactionConflict):
            self._rollback()
            raise failure
        commit(self)
        if failure is not None:
            raise failure

    monkeypatch.setattr(Cache, "_commit", fails)
    average = Averager(cache, "average")
    average.add(3)
    assert cache["average"] == (3.0, 1)
    lock = RLock(cache, "key")
    lock.acquire()
    for _ in range(2):
        failures.append(diskcache_rs.OutcomeUnknown("unknown"))
        lock.acquire()
    assert _lease.entries_of(cache["key"])[0].times == 3
    for _ in range(3):
        failures.append(diskcache_rs.OutcomeUnknown("unknown"))
        lock.release()
    assert "key" not in cache
    cache["key"] = None
    failures.append(diskcache_rs.OutcomeUnknown("unknown"))
    lock.acquire()
    assert [entry.times for entry in _lease.entries_of(cache["key"])] == [1]
    assert lock.held


@pytest.mark.parametrize("profile", ["local", "shared"])
def test_locks_in_a_fanout_cache_are_exact_too(tmp_path: Path, profile: str) -> None:
    """A shard that does not answer in time is no free lock: all of a lock lies in one shard, and is asked for there."""
    kind: Any = FanoutCache
    cache = kind(str(tmp_path / "fanout"), shards=3, profile=profile, timeout=10)
    locks = [Lock(cache, "a"), RLock(cache, "b"), BoundedSemaphore(cache, "c")]

    def work(_: int) -> None:
        average = Averager(cache, "average")
        for _ in range(10):
            for lock in locks:
                # (On a network drive a transaction may have to be run again, which is not what is tested here.)
                with lock, lock.fenced() if profile == "local" else contextlib.nullcontext():
                    cache.set(lock._key + "-count", cache.get(lock._key + "-count", 0, retry=True) + 1, retry=True)
            average.add(1)

    run_in_children(4, work)
    assert [cache.get(lock._key + "-count", retry=True) for lock in locks] == [40] * 3
    assert cache.get("average", retry=True) == (40.0, 40)
    lost = pickle.loads(pickle.dumps(locks[0]))
    with pytest.raises(LockLost), lost.fenced():
        pass
    cache.close()


def test_a_lease_must_be_positive(cache: Cache) -> None:
    with pytest.raises(ValueError, match="lease must be"):
        Lock(cache, "key", lease=0)


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_barrier_lets_one_in_at_a_time(cache: Cache, factory: Callable[..., Any]) -> None:
    @barrier(cache, factory, name="work", tag="barriers")
    def work(child: int) -> int:
        cache["inside"] = cache.get("inside", 0) + 1
        return child

    run_in_children(4, lambda child: [work(child) for _ in range(50)] and None)
    assert cache["inside"] == 200
    assert work(7) == 7


def test_a_throttle_counts_over_all_processes(cache: Cache) -> None:
    @throttle(cache, 10, 0.5, name="work")
    def work() -> None:
        cache.incr("calls")

    start = time.monotonic()
    run_in_children(2, lambda _: [work() for _ in range(15)] and None)
    assert cache["calls"] == 30
    # Ten at once, then twenty a second.
    assert 0.9 < time.monotonic() - start < 10


def test_a_throttle_keeps_its_tag_and_survives_the_loss_of_its_key(cache: Cache) -> None:
    slept: list[float] = []

    @throttle(cache, 1, 2, tag="throttles", time_func=lambda: sum(slept), sleep_func=slept.append)
    def work() -> str:
        return "done"

    name = f"{__name__}.test_a_throttle_keeps_its_tag_and_survives_the_loss_of_its_key.<locals>.work"
    assert [work(), work()] == ["done", "done"]
    assert cache.get(name, tag=True)[1] == "throttles"
    del cache[name]
    assert work() == "done"
    assert slept == [2.0]


def test_no_thread_is_started_where_there_is_no_lease(cache: Cache) -> None:
    with Lock(cache, "key", expire=5), Lock(cache, "other", lease=None) as other:
        assert other.held
        assert not _lease.renewer(cache)._runs
    with Lock(cache, "key"):
        assert _lease.renewer(cache)._runs
