"""Leases: who holds a lock, for how long it may believe so, and when others may take it from the dead.

What is stored under a lock's key is a tuple of entries, one for each holder. An entry has a nonce of its own (whoever is not
named by it any more has lost the lock), and a beat that the holder raises every third of the lease. No two clocks are ever
compared, and none is asked for the time of day:

- A holder counts the lease from *before* it sent the entry or the beat, by its own clock, and believes in nine tenths of it.
- A waiter counts the lease from *after* it first saw that beat, by its own clock, and takes the lock in a transaction that
  finds the same beat.

So the waiter's lease begins after the holder's and ends after it; it would take clocks of which one runs a tenth faster than
the other (real ones differ by a ten-thousandth) for both to believe at once. The clocks go on while a computer sleeps. On one
host there is nothing to wait for: a process that is gone is seen to be gone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
import time
from typing import Any, NamedTuple

from ._exceptions import OutcomeUnknown, Timeout
from ._retry import settled

LEASE = 30.0
# The part of a lease that its holder believes in, and how often it renews it within one.
_BELIEVED, _BEATS = 0.9, 3


def now() -> float:
    """Return seconds of this host's clock, which cannot be set and does not stop when the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Entry(NamedTuple):
    """One holder, as it is stored."""

    nonce: str
    owner: tuple[str, int, str, str]
    lease: float | None
    beat: int
    times: int


def entries_of(value: Any) -> tuple[Entry, ...]:
    """Return the entries in what is stored under a lock's key; none if it is something else (a lock of python-diskcache)."""
    if not isinstance(value, tuple):
        return ()
    try:
        return tuple(Entry(*entry) for entry in value)
    except TypeError:
        return ()


def stored(entries: tuple[Entry, ...]) -> tuple[tuple[Any, ...], ...]:
    """Return `entries` as plain tuples, which any version can load."""
    return tuple(tuple(entry) for entry in entries)


def _host() -> str:
    """Return what tells apart kernels, and containers that number processes differently."""
    if not _names:
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        _names.append(f"{os.uname().nodename}/{boot}/{os.stat('/proc/self/ns/pid').st_ino}")
    return _names[0]


_names: list[str] = []
os.register_at_fork(after_in_child=_names.clear)


def _started(pid: int) -> str:
    """Return when a process was started, or nothing if that cannot be seen: numbers of processes are used again."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


_started_once = functools.cache(_started)
_thread = threading.local()


def owner() -> tuple[str, int, str, str]:
    """Return who is asking: host, process, when that was started, thread."""
    pid = os.getpid()
    if getattr(_thread, "pid", None) != pid:
        # The number of a thread is used again after its end, and a forked child has its parent's.
        _thread.pid, _thread.name = pid, secrets.token_hex(8)
    return _host(), pid, _started_once(pid), _thread.name


def is_gone(entry: Entry) -> bool:
    """Return whether the process of an entry is known to have ended."""
    host, pid, started, _ = entry.owner
    if host != _host():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _started(pid) not in ("", started)


def home(cache: Any, key: Any) -> Any:
    """Return the one `Cache` that `key` lives in: the shard, if there are several.

    All that belongs to a lock is kept there. A shard raises `Timeout` where a `FanoutCache` would answer as if there were no lock.
    """
    shard = getattr(cache, "_shard", None)
    return cache if shard is None else shard(key)


class Watch:
    """What a waiter saw of the holders, and since when."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}

    def look(self, entries: tuple[Entry, ...]) -> None:
        """Take note of `entries`, which were read before now."""
        time_seen = now()
        before, self._seen = self._seen, {}
        for entry in entries:
            beat, since = before.get(entry.nonce, (entry.beat, time_seen))
            self._seen[entry.nonce] = (beat, since) if beat == entry.beat else (entry.beat, time_seen)

    def is_over(self, entry: Entry) -> bool:
        """Return whether the lease of `entry` is over."""
        if entry.lease is None:
            return False
        beat, since = self._seen.get(entry.nonce, (None, 0.0))
        return is_gone(entry) or (beat == entry.beat and now() - since > entry.lease)


class Hold:
    """What this process knows of a lock that it was given."""

    def __init__(self, cache: Any, key: Any, entry: Entry, since: float, expire: float | None, tag: Any) -> None:
        self.cache, self.key, self.entry, self.tag = cache, key, entry, tag
        self.since, self.expire = since, expire
        self.token = 0
        self.lost = False
        self._pid = os.getpid()

    @property
    def is_believed(self) -> bool:
        """Whether nobody else can have been given the lock, as far as this host can tell without asking."""
        if self.lost or self._pid != os.getpid():
            return False
        limit = self.expire if self.entry.lease is None else self.entry.lease * _BELIEVED
        return limit is None or now() - self.since < limit

    @property
    def due(self) -> float:
        """When the next beat is due."""
        return self.since + (self.entry.lease or 0.0) / _BEATS

    def renew(self) -> bool:
        """Raise the beat, and return whether the lock is still held; raise `Timeout` if that cannot be told."""
        since, nonce = now(), self.entry.nonce

        def step() -> bool:
            entries = entries_of(self.cache.get(self.key))
            if not any(entry.nonce == nonce for entry in entries):
                return False
            beaten = tuple(entry._replace(beat=entry.beat + 1) if entry.nonce == nonce else entry for entry in entries)
            self.cache.set(self.key, stored(beaten), tag=self.tag)
            return True

        with self.cache.transact():
            kept = step()
        if kept:
            self.since = since
        else:
            self.lost = True
        return kept

    def is_confirmed(self) -> bool:
        """Return whether the lock is held now; renew the lease if it took long to get here."""
        while not self.is_believed:
            if self.lost or self.entry.lease is None:
                return False
            # A time-out tells nothing: asked again.
            with contextlib.suppress(Timeout):
                self.renew()
        return True


class Renewer:
    """Renews the leases of one directory that this process holds, in a thread that ends when there are none."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holds: dict[str, Hold] = {}
        self._wakes = 0.0
        self._runs = False

    def add(self, hold: Hold) -> None:
        """Renew `hold` from now on."""
        with self._changed:
            self._holds[hold.entry.nonce] = hold
            if hold.entry.lease is None:
                return
            if not self._runs:
                self._runs, self._wakes = True, hold.due
                threading.Thread(target=self._run, name="diskcache_rs leases", daemon=True).start()
            elif hold.due < self._wakes:
                self._changed.notify()

    def remove(self, nonce: str) -> Hold | None:
        """Renew it no more."""
        with self._changed:
            return self._holds.pop(nonce, None)

    def get(self, nonce: str) -> Hold | None:
        """Return the hold with this nonce, if it is one of this process."""
        with self._changed:
            return self._holds.get(nonce)

    def _run(self) -> None:
        while True:
            with self._changed:
                leased = [hold for hold in self._holds.values() if hold.entry.lease is not None and not hold.lost]
                if not leased:
                    self._runs = False
                    return
                self._wakes = min(hold.due for hold in leased)
                if self._wakes > now():
                    self._changed.wait(max(self._wakes - now(), 0.001))
                    continue
            for hold in leased:
                if hold.due <= now():
                    self._renew(hold)

    def _renew(self, hold: Hold) -> None:
        if not os.path.isdir(hold.cache.directory):
            hold.lost = True  # a call would make the directory again
            return
        # What cannot be told now is tried again; meanwhile the holder's belief ends by itself.
        try:
            hold.renew()
        except (Timeout, OSError):
            time.sleep(min(1.0, (hold.entry.lease or 0.0) / 20))


_renewers: dict[str, Renewer] = {}


_path = functools.lru_cache(64)(os.path.realpath)


def renewer(cache: Any) -> Renewer:
    """Return this process's renewer for the directory of `cache`."""
    path = _path(cache.directory)
    found = _renewers.get(path)
    return _renewers.setdefault(path, Renewer()) if found is None else found


# The thread is the parent's, and so are the leases.
os.register_at_fork(after_in_child=_renewers.clear)


def new_entry(lease: float | None) -> Entry:
    """Return the entry of a new holder: this thread."""
    return Entry(secrets.token_hex(8), owner(), lease, 0, 1)


def change(cache: Any, key: Any, nonce: str, times: int, expire: float | None, tag: Any) -> bool:
    """Set how often an entry is held, or remove it if that is 0. Return whether it was there."""
    tries = 0

    def step() -> bool:
        nonlocal tries
        tries += 1
        entries = entries_of(cache.get(key))
        if not any(entry.nonce == nonce for entry in entries):
            # After an unknown outcome it is this call that removed it.
            return times == 0 and tries > 1
        changed = tuple(entry._replace(times=times) if entry.nonce == nonce else entry for entry in entries)
        kept = tuple(entry for entry in changed if entry.times > 0)
        if kept:
            cache.set(key, stored(kept), expire=expire, tag=tag)
        else:
            cache.delete(key)
        return True

    return settled(cache, step)


def fence(cache: Any, key: Any) -> int:
    """Return a number for `key` that is greater than all before.

    It is counted under a key of its own. Should that be evicted, it goes on at the time in milliseconds, which is beyond what was
    counted from an earlier time.
    """
    while True:
        with contextlib.suppress(OutcomeUnknown):
            return int(cache.incr(("diskcache_rs.fence", key), default=int(time.time() * 1000), retry=True))
