"""Locks, and writes that only the holder makes."""

from typing import assert_type

from diskcache_rs import Averager, BoundedSemaphore, Cache, Lock, LockLost, RLock

cache = Cache()


def report(lock: Lock | RLock | BoundedSemaphore) -> None:
    with lock:
        assert_type(lock.held, bool)
        assert_type(lock.token, int | None)
        try:
            with lock.fenced():
                cache["report"] = lock.token
        except LockLost as lost:
            print(lost)


def main() -> None:
    report(Lock(cache, "a"))
    report(RLock(cache, ("a", 1), expire=60, tag="locks"))
    report(BoundedSemaphore(cache, "b", value=4, lease=10))
    assert_type(Lock(cache, "a").locked(), bool)
    average = Averager(cache, "latency")
    average.add(0.5)
    assert_type(average.get(), float | None)
    with Lock(cache, "a") as lock:
        assert_type(lock, Lock)
