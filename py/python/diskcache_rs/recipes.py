"""Recipes over a cache: averages, locks that processes and hosts share, throttles, memoization without stampedes.

The locks are python-diskcache's, and outlive their holders. A lock is held under a *lease* (30 seconds; ``lease=`` gives another)
that a thread of the holder's process renews every third of it, for as long as the process lives. A process that is killed is
noticed at once on its own host, and by others when its lease is over. With ``expire=`` there is no lease: as in
python-diskcache, the lock is free `expire` seconds after it was acquired, by the clocks of the hosts that look, whatever became
of its holder.

No lock can stop a holder that was suspended for longer than its lease, or that the drive was cut off from, in the middle of
what it does. What makes that harmless:

- ``lock.held`` says, without asking anybody, whether the lease is surely still valid.
- ``with lock.fenced():`` is a transaction of the cache that raises `LockLost` unless the lock is still this holder's. What is
  written in it takes effect only if so, whatever the clocks say: of two that believe to hold a lock, one passes.
- ``lock.token`` is a number that grows with each acquisition, over all hosts. Send it along with what goes elsewhere, and let
  the other side refuse numbers lower than the highest that it has seen.

How clocks matter: with a lease, only by their rates (see `_lease`); with ``expire=``, a host whose clock is ahead takes the
lock that much earlier. The fence holds either way. A lock's key must not be evicted: give the cache ``eviction_policy='none'``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from ._lease import home as home_of
from ._locks import BoundedSemaphore, Lock, LockLost, RLock
from ._memoize import full_name, memoize_stampede, wraps
from ._retry import atomically

__all__ = ["Averager", "BoundedSemaphore", "Lock", "LockLost", "RLock", "barrier", "memoize_stampede", "throttle"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Averager:
    """A running average that many may add to at once.

    >>> from diskcache_rs import Cache
    >>> average = Averager(Cache(), 'latency')
    >>> average.add(0.08)
    >>> average.add(0.12)
    >>> average.get()
    0.1
    >>> average.pop()
    0.1
    >>> print(average.get())
    None
    """

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None) -> None:
        self._cache, self._key = home_of(cache, key), key
        self._expire, self._tag = expire, tag

    def add(self, value: float) -> None:
        """Count `value` in.

        >>> from diskcache_rs import Cache
        >>> average = Averager(Cache(), 'latency')
        >>> average.add(0.25)
        >>> average.get()
        0.25
        """

        def step() -> None:
            total, count = self._cache.get(self._key, default=(0.0, 0))
            self._cache.set(self._key, (total + value, count + 1), expire=self._expire, tag=self._tag)

        atomically(self._cache, step)

    def get(self) -> float | None:
        """Return the average, or None if nothing was added.

        >>> from diskcache_rs import Cache
        >>> print(Averager(Cache(), 'latency').get())
        None
        """
        return _average(self._cache.get(self._key, default=(0.0, 0), retry=True))

    def pop(self) -> float | None:
        """Return the average and begin anew.

        >>> from diskcache_rs import Cache
        >>> average = Averager(Cache(), 'latency')
        >>> average.add(0.25)
        >>> average.pop(), average.get()
        (0.25, None)
        """
        return _average(self._cache.pop(self._key, default=(0.0, 0), retry=True))


def _average(pair: tuple[float, int]) -> float | None:
    total, count = pair
    return total / count if count else None


def throttle(
    cache: Any,
    count: int,
    seconds: float,
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
    time_func: Callable[[], float] = time.time,
    sleep_func: Callable[[float], Any] = time.sleep,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that lets a function be called `count` times in `seconds`, over all who share the cache.

    >>> from diskcache_rs import Cache
    >>> slept = []
    >>> @throttle(Cache(), 2, 1, time_func=lambda: sum(slept), sleep_func=slept.append)
    ... def work():
    ...     pass
    >>> for _ in range(4):
    ...     work()
    >>> slept
    [0.5, 0.5]
    """
    rate = count / float(seconds)

    def decorator(func: Callable[_P, _R]) -> Callable[_P, _R]:
        key = full_name(func) if name is None else name
        home = home_of(cache, key)
        home.set(key, (time_func(), count), expire=expire, tag=tag, retry=True)

        def step() -> float:
            """Take one call from the tally, or return how long to wait for one."""
            present = time_func()
            last, tally = cast("tuple[float, float]", home.get(key, default=(present, count)))
            tally += (present - last) * rate
            if tally < 1:
                return (1 - tally) / rate
            left = count - 1 if tally > count else tally - 1
            home.set(key, (present, left), expire=expire, tag=tag)
            return 0.0

        @wraps(func)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            while delay := atomically(home, step):
                sleep_func(delay)
            return func(*args, **kwargs)

        return wrapper

    return decorator


def barrier(
    cache: Any,
    lock_factory: Callable[..., Any],
    name: str | None = None,
    expire: float | None = None,
    tag: Any = None,
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Return a decorator that makes a function run under a lock: `Lock`, `RLock` or `BoundedSemaphore`.

    >>> from diskcache_rs import Cache
    >>> @barrier(Cache(), Lock)
    ... def work():
    ...     return 'one at a time'
    >>> work()
    'one at a time'
    """

    def decorator(func: Callable[_P, _R]) -> Callable[_P, _R]:
        key = full_name(func) if name is None else name
        lock = lock_factory(cache, key, expire=expire, tag=tag)

        @wraps(func)
        def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with lock:
                return func(*args, **kwargs)

        return wrapper

    return decorator
