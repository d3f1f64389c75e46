"""`Lock`, `RLock` and `BoundedSemaphore`: held under leases, with a fence; see `recipes`."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Self

from . import _lease
from ._exceptions import OutcomeUnknown
from ._lease import LEASE, Entry, Hold, Watch
from ._retry import Backoff, atomically


class LockLost(RuntimeError):
    """The lock is not held any more: its lease was over, or somebody released it. Nothing of the transaction took effect."""


class _Leased:
    """What `Lock`, `RLock` and `BoundedSemaphore` share."""

    def __init__(self, cache: Any, key: Any, expire: float | None = None, tag: Any = None, *, lease: float | None = LEASE) -> None:
        if lease is not None and lease <= 0:
            raise ValueError(f"lease must be a number of seconds above 0, or None for no end, not {lease}")
        self._whole, self._cache, self._key = cache, _lease.home(cache, key), key
        self._expire, self._tag = expire, tag
        self._lease = lease if expire is None else None
        # What was acquired through this object, by thread, the newest last.
        self._holds: list[tuple[int, Hold]] = []
        self._was_used = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_holds": [], "_was_used": False}

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Wait until it is given to this thread.

        >>> from diskcache_rs import Cache
        >>> lock = Lock(Cache(), 'report')
        >>> lock.acquire()
        >>> lock.held
        True
        """
        self._keep(self._wait())

    def release(self) -> None:
        """Give it back."""
        raise NotImplementedError

    @property
    def held(self) -> bool:
        """Whether this thread (or, if it has none, this object) holds the lock: nobody else can have been given it.

        It is told by this host's clock alone, without asking the drive; it turns to False when the lease could not be renewed in
        time, or when a renewal found the lock in other hands.

        >>> from diskcache_rs import Cache
        >>> lock = Lock(Cache(), 'report')
        >>> with lock:
        ...     lock.held
        True
        >>> lock.held
        False
        """
        hold = self._hold()
        return hold is not None and hold.is_believed

    @property
    def token(self) -> int | None:
        """The fencing token: a number greater than that of every acquisition before; None if this object holds nothing.

        >>> from diskcache_rs import Cache
        >>> lock = Lock(Cache(), 'report')
        >>> with lock:
        ...     first = lock.token
        >>> with lock:
        ...     lock.token > first
        True
        """
        hold = self._hold()
        return None if hold is None else hold.token

    @contextlib.contextmanager
    def fenced(self) -> Iterator[None]:
        """Open a transaction that takes effect only if the lock is still held; else `LockLost` is raised at its beginning.

        On a network drive it may end with `TransactionConflict`, as any transaction: nothing took effect, and it can be run again.

        >>> from diskcache_rs import Cache
        >>> cache = Cache()
        >>> lock = Lock(cache, 'report')
        >>> with lock, lock.fenced():
        ...     cache['report'] = 'written by the holder'
        """
        hold = self._hold()
        if hold is None:
            raise LockLost(f"the lock {self._key!r} is not held by this object: acquire it first")
        with self._whole.transact(retry=True):
            entries = _lease.entries_of(self._cache.get(self._key))
            if not any(entry.nonce == hold.entry.nonce for entry in entries):
                hold.lost = True
                raise LockLost(f"the lock {self._key!r} was lost: its lease was over, or it was released by others")
            yield

    def _hold(self) -> Hold | None:
        """Return the newest hold of this thread, else of this object."""
        holds = list(self._holds)
        mine = [hold for thread, hold in holds if thread == threading.get_ident()]
        candidates = mine or [hold for _, hold in holds]
        return candidates[-1] if candidates else None

    def _keep(self, hold: Hold) -> None:
        self._was_used = True
        self._holds.append((threading.get_ident(), hold))

    def _forget(self, hold: Hold) -> None:
        _lease.renewer(self._cache).remove(hold.entry.nonce)
        hold.lost = True
        for pair in [pair for pair in self._holds if pair[1] is hold]:
            self._holds.remove(pair)

    def _admits(self, entries: tuple[Entry, ...]) -> bool:
        """Return whether there is room beside the holders `entries`."""
        return not entries

    def _wait(self) -> Hold:
        """Wait for the lock and return the hold."""
        entry, watch, backoff = _lease.new_entry(self._lease), Watch(), Backoff()
        while True:
            since = _lease.now()
            # Whether an attempt of unknown outcome took effect is seen by the nonce at the next.
            with contextlib.suppress(OutcomeUnknown):
                if self._try(entry, watch):
                    hold = self._new_hold(entry, since)
                    # The token counts only if it was drawn while nobody else could have drawn one.
                    if hold.is_confirmed():
                        _lease.renewer(self._cache).add(hold)
                        return hold
                    entry = _lease.new_entry(self._lease)
            backoff.rest()

    def _new_hold(self, entry: Entry, since: float) -> Hold:
        hold = Hold(self._cache, self._key, entry, since, self._expire, self._tag)
        hold.token = _lease.fence(self._cache, self._key)
        return hold

    def _try(self, entry: Entry, watch: Watch) -> bool:
        options = {"expire": self._expire, "tag": self._tag}
        value = self._cache.get(self._key, default=self, retry=True)
        if value is self:
            return bool(self._cache.add(self._key, _lease.stored((entry,)), retry=True, **options))
        entries = _lease.entries_of(value)
        watch.look(entries)

        def rest_of(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
            return tuple(other for other in entries if other.nonce != entry.nonce and not watch.is_over(other))

        def step() -> bool:
            present = _lease.entries_of(self._cache.get(self._key))
            others = rest_of(present)
            beats = [other.beat + 1 for other in present if other.nonce == entry.nonce]
            if not beats and not self._admits(others):
                return False
            mine = entry._replace(beat=max(beats, default=0))
            self._cache.set(self._key, _lease.stored((*others, mine)), **options)
            return True

        # A look costs less than a transaction, which others would have to wait for.
        return self._admits(rest_of(entries)) and atomically(self._cache, step)


class Lock(_Leased):
    """A lock that threads, processes and hosts share.

    >>> from diskcache_rs import Cache
    >>> lock = Lock(Cache(), 'report-123')
    >>> lock.acquire()
    >>> lock.locked()
    True
    >>> lock.release()
    >>> with lock:
    ...     pass

    Args:
        cache: a `Cache` or `FanoutCache`.
        key: the key that the lock is kept under.
        expire: seconds until the lock is free whatever became of its holder; then there is no lease.
        tag: the tag of the key.
        lease: seconds until a holder that does not answer is taken for dead.

    """

    def release(self) -> None:
        """Give the lock back. If it was lost, nothing happens: whoever has it now keeps it.

        An object that never acquired the lock releases it for whoever holds it, as in python-diskcache.

        >>> from diskcache_rs import Cache
        >>> lock = Lock(Cache(), 'report')
        >>> lock.acquire()
        >>> lock.release()
        >>> lock.locked()
        False
        """
        hold = self._hold()
        if hold is not None:
            self._forget(hold)
            _lease.change(self._cache, self._key, hold.entry.nonce, 0, self._expire, self._tag)
        elif not self._was_used:
            self._cache.delete(self._key, retry=True)

    def locked(self) -> bool:
        """Return whether anybody holds the lock.

        >>> from diskcache_rs import Cache
        >>> lock = Lock(Cache(), 'report')
        >>> with lock:
        ...     lock.locked()
        True
        """
        return self._key in self._cache


class RLock(_Leased):
    """A lock that its holder, a thread, may acquire again. It is free when it was released as often.

    >>> from diskcache_rs import Cache
    >>> lock = RLock(Cache(), 'user-123')
    >>> with lock, lock:
    ...     pass
    >>> lock.release()
    Traceback (most recent call last):
      ...
    AssertionError: cannot release un-acquired lock

    Its arguments are those of `Lock`.
    """

    def acquire(self) -> None:
        """Wait until this thread has the lock, once more.

        >>> from diskcache_rs import Cache
        >>> lock = RLock(Cache(), 'user-123')
        >>> lock.acquire()
        >>> lock.acquire()
        >>> lock.held
        True
        """
        mine = self._entry()
        since = _lease.now()
        if mine is None or not self._change(mine.nonce, mine.times + 1):
            super().acquire()
            return
        renewer = _lease.renewer(self._cache)
        known = renewer.get(mine.nonce)
        hold = known or self._new_hold(mine, since)
        if known is None:
            renewer.add(hold)
        elif self._expire is not None:
            hold.since = since  # as in python-diskcache, its time begins anew
        self._keep(hold)

    def release(self) -> None:
        """Give the lock back once; raise `AssertionError` if this thread does not hold it (any more).

        >>> from diskcache_rs import Cache
        >>> lock = RLock(Cache(), 'user-123')
        >>> lock.acquire()
        >>> lock.acquire()
        >>> lock.release()
        >>> lock.held
        True
        """
        mine = self._entry()
        if mine is None:
            for _, lost in [pair for pair in self._holds if pair[0] == threading.get_ident()]:
                self._forget(lost)
            raise AssertionError("cannot release un-acquired lock")
        hold = _lease.renewer(self._cache).get(mine.nonce)
        if hold is not None and mine.times == 1:
            self._forget(hold)
        elif hold is not None and (threading.get_ident(), hold) in self._holds:
            self._holds.remove((threading.get_ident(), hold))
        self._change(mine.nonce, mine.times - 1)

    def _entry(self) -> Entry | None:
        """Return the entry of this thread, which nobody else changes but for its beat."""
        me = _lease.owner()
        entries = _lease.entries_of(self._cache.get(self._key, retry=True))
        return next((entry for entry in entries if entry.owner == me), None)

    def _change(self, nonce: str, times: int) -> bool:
        return _lease.change(self._cache, self._key, nonce, times, self._expire, self._tag)


class BoundedSemaphore(_Leased):
    """A number of slots that threads, processes and hosts share.

    >>> from diskcache_rs import Cache
    >>> semaphore = BoundedSemaphore(Cache(), 'connections', value=2)
    >>> with semaphore, semaphore:
    ...     pass
    >>> semaphore.release()
    Traceback (most recent call last):
      ...
    AssertionError: cannot release un-acquired semaphore

    Its arguments are those of `Lock`, and how many slots there are. Each slot has a token of its own.
    """

    def __init__(
        self,
        cache: Any,
        key: Any,
        value: int = 1,
        expire: float | None = None,
        tag: Any = None,
        *,
        lease: float | None = LEASE,
    ) -> None:
        super().__init__(cache, key, expire, tag, lease=lease)
        self._value = value

    def release(self) -> None:
        """Give a slot back; raise `AssertionError` if there is none to give.

        An object that never acquired one gives back that of another, the oldest, as in python-diskcache.

        >>> from diskcache_rs import Cache
        >>> cache = Cache()
        >>> BoundedSemaphore(cache, 'connections', value=2).acquire()
        >>> BoundedSemaphore(cache, 'connections', value=2).release()
        """
        hold = self._hold()
        nonces: list[str] = []
        if hold is not None:
            self._forget(hold)
            nonces.append(hold.entry.nonce)
        elif not self._was_used:
            nonces += [entry.nonce for entry in _lease.entries_of(self._cache.get(self._key, retry=True))]
        for nonce in nonces:
            if _lease.change(self._cache, self._key, nonce, 0, self._expire, self._tag):
                return
        raise AssertionError("cannot release un-acquired semaphore")

    def _admits(self, entries: tuple[Entry, ...]) -> bool:
        return len(entries) < self._value
